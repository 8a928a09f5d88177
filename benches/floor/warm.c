/* The floor of a warm invocation: thaw a process, 100 bytes there and back, freeze it again.
 *
 * `warm CGROUP` works in a new version 2 cgroup below CGROUP. The freezer is asked twice a round, and the round ends
 * when the second request was taken; that the process has stopped before the next round is waited for off the clock.
 * `warm CGROUP pinned` keeps both ends on one CPU; otherwise they are where the kernel puts them. */

#include "floor.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { BYTES = 100 };

#define PATIENCE_NS INT64_C(5000000000)

static int switch_fd, events_fd, ours;

static void ask_freezer(const char *state) { must(pwrite(switch_fd, state, 1, 0), "writing cgroup.freeze"); }

/* By looking, not by poll: the kernel tells of a change of cgroup.events at most once in 10 ms. */
static void wait_until_frozen(void) {
    char events[64];
    int64_t deadline = now_ns() + PATIENCE_NS;
    while (now_ns() < deadline) {
        events[must(pread(events_fd, events, sizeof events - 1, 0), "reading cgroup.events")] = 0;
        if (strstr(events, "frozen 1"))
            return;
        sched_yield();
    }
    fprintf(stderr, "the process would not freeze\n");
    exit(1);
}

static int64_t round_ns(void) {
    char message[BYTES] = {0};
    int64_t begun = now_ns();
    ask_freezer("0");
    if (send(ours, message, BYTES, 0) != BYTES || recv(ours, message, BYTES, 0) != BYTES)
        exit(1);
    ask_freezer("1");
    int64_t took = now_ns() - begun;
    wait_until_frozen();
    return took;
}

static void echo(int theirs) {
    char message[BYTES];
    while (recv(theirs, message, BYTES, 0) == BYTES)
        if (send(theirs, message, BYTES, 0) != BYTES)
            break;
    _exit(0);
}

static void stay_on_this_cpu(void) {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(must(sched_getcpu(), "asking for the CPU"), &here);
    must(sched_setaffinity(0, sizeof here, &here), "staying on a CPU");
}

int main(int count, char **words) {
    char path[4096];
    int pair[2];
    if (count < 2)
        return 2;
    if (count > 2)
        stay_on_this_cpu();
    snprintf(path, sizeof path, "%s/floor-%d", words[1], (int)getpid());
    must(mkdir(path, 0755), "making the cgroup");
    int folder = (int)must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "opening the cgroup");
    switch_fd = (int)must(openat(folder, "cgroup.freeze", O_WRONLY | O_CLOEXEC), "opening cgroup.freeze");
    events_fd = (int)must(openat(folder, "cgroup.events", O_RDONLY | O_CLOEXEC), "opening cgroup.events");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    struct clone_args how = {
        .flags = CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = (uint64_t)folder,
    };
    long pid = must(syscall(SYS_clone3, &how, sizeof how), "clone3");
    if (pid == 0) {
        close(pair[0]);
        echo(pair[1]);
    }
    ours = pair[0];
    close(pair[1]);
    ask_freezer("1");
    wait_until_frozen();
    serve(round_ns);
    ask_freezer("0");
    kill((pid_t)pid, SIGKILL);
    must(waitpid((pid_t)pid, NULL, 0), "waitpid");
    must(rmdir(path), "removing the cgroup");
    return 0;
}
