# The tests that are run in the emulated machine: as root, at the root of its cgroups, and as an ordinary user.
# "short" is the part of them that every change has to pass. Called with the interpreter of the virtual environment.
python=$1
length=$2
common="-q -p no:cacheprovider -o timeout=300 --tb=short -rfE --durations=15"
# What is not allowed to be skipped here, and how much slower than elsewhere everything is.
export COLDFRAME_REQUIRE=root,namespaces,seccomp,landlock,cgroup.cpu,cgroup.memory,cgroup.pids,cgroup.freeze
export COLDFRAME_OWN_MACHINE=1 COLDFRAME_SLOWNESS=10 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp

refusals=tests/escape/test_refusals.py::test_the_filter_refuses
root=$refusals
more=
user=$refusals
if [ "$length" = all ]; then
    # What a quarter of an hour has time for: attacks that meet another kernel and other cgroups, and no large memory.
    root="$root $(echo tests/escape/test_bank_{owner,lifecycle,identity}.py)"
    more=$(echo tests/escape/test_bank_{files,processes,network,kernel,devices}.py)
    user="$user tests/escape/test_bank_identity.py"
fi

as_root() { "$python" -m pytest $common "$@"; }
as_user() { "$python" tests/ordinary.py $common "$@"; }
failed=0
echo "As root, at the root of a version 2 tree ($(uname -r)), what moves processes in it:"
as_root tests/vm || failed=1
# The machine has two processors.
beside() {
    local failed=0
    if [ "$more" ]; then as_root $more || failed=1; fi
    as_user $user || failed=1
    return $failed
}
beside >/tmp/beside 2>&1 & beside=$!
echo "As root, beside the next:"
as_root $root || failed=1
wait $beside || failed=1
echo "As root, and then as an ordinary user with a delegated cgroup:"
cat /tmp/beside
exit $failed
