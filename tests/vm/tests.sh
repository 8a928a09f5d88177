# The tests that are run in the emulated machine: as root, at the root of its cgroups, and as an ordinary user.
# "short" is the part of them that every change has to pass. Called with the interpreter of the virtual environment.
python=$1
length=$2
common="-q -p no:cacheprovider -o timeout=300 --tb=short -rfE --durations=15"
# They take half a minute to import there, and nothing here wants them.
for plugin in hypothesispytest benchmark xdist anyio; do
    common="$common -p no:$plugin"
done
# What is not allowed to be skipped here, and how much slower than elsewhere everything is.
export COLDFRAME_REQUIRE=root,namespaces,seccomp,landlock,cgroup.cpu,cgroup.memory,cgroup.pids,cgroup.freeze
export COLDFRAME_OWN_MACHINE=1 COLDFRAME_SLOWNESS=10 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp

refusals=tests/escape/test_refusals.py::test_the_filter_refuses
root="tests/vm $refusals"
user=$refusals
if [ "$length" = all ]; then
    # What a quarter of an hour has time for: attacks that meet another kernel and other cgroups, and no large memory.
    for theme in owner lifecycle identity files processes network kernel devices; do
        root="$root tests/escape/test_bank_$theme.py"
    done
    user="$user tests/escape/test_bank_identity.py"
fi
failed=0
echo "As root, at the root of a version 2 tree ($(uname -r)):"
"$python" -m pytest $common $root || failed=1
echo "As an ordinary user with a delegated cgroup:"
"$python" tests/ordinary.py $common $user || failed=1
exit $failed
