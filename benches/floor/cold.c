/* The floor of a cold start: what the kernel alone takes to isolate a process and hear its first byte.
 *
 * No Python, no user namespace, no cgroup, no allow-list of files; a network namespace made on the spot. From just
 * before clone3 to the arrival of the byte; the end of the process is off the clock. Wants root. */

#include "floor.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define CONVENTION AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CONVENTION AUDIT_ARCH_AARCH64
#endif

#define REFUSE(name) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/* Short, since installing costs by the length: a floor's filter, not a policy. */
static struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONVENTION, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    REFUSE(mount),
    REFUSE(unshare),
    REFUSE(ptrace),
    REFUSE(bpf),
    REFUSE(keyctl),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static void isolate(void) {
    /* Nothing that follows may reach the mounts of the host. */
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "making mounts private");
    must(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m"), "mounting the root");
    must(chdir("/tmp"), "entering the root");
    must(mkdir("proc", 0755), "making /proc");
    must(mkdir("tmp", 0755), "making /tmp");
    must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mounting /proc");
    must(mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=512m"), "mounting /tmp");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "letting go of the old root");
    must(syscall(SYS_setgid, 65534), "setgid");
    must(syscall(SYS_setuid, 65534), "setuid");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "installing the filter");
}

static int64_t round_ns(void) {
    int pair[2];
    char byte;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    struct clone_args how = {
        .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    int64_t begun = now_ns();
    long pid = must(syscall(SYS_clone3, &how, sizeof how), "clone3");
    if (pid == 0) {
        close(pair[0]);
        isolate();
        must(write(pair[1], "!", 1), "writing the byte");
        pause();
        _exit(0);
    }
    close(pair[1]); /* so that the death of the child is the end of the file, and not a wait for ever */
    if (read(pair[0], &byte, 1) != 1)
        exit(1);
    int64_t took = now_ns() - begun;
    kill((pid_t)pid, SIGKILL);
    must(waitpid((pid_t)pid, NULL, 0), "waitpid");
    close(pair[0]);
    return took;
}

int main(void) {
    serve(round_ns);
    return 0;
}
