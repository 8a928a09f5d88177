"""What the pytest plugin does, loaded when a test asks for it.

    settings     the options and settings of a run, checked
    hosts        the host that the tests of a process share
    functions    functions that the fixtures make, which remember how they failed
    failures     what a failed invocation adds to a report

    marker       what `@pytest.mark.coldframe(...)` asks for
    project      the project as an environment sees it, and the way back to the paths that people know
    description  what the pytest in an environment is told: test, options, plugins
    protocol     a marked test: from the item to its reports
    reports      what comes out of an environment, checked to the last text
    warm         what is imported, and looked up, before an environment is forked
    stage/       the code that runs inside
"""
