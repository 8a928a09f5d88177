"""These tests make cgroups at the root of the tree: they are for a machine of their own, which says that it is one."""

import os

collect_ignore = [] if "COLDFRAME_OWN_MACHINE" in os.environ else ["test_layouts.py"]
