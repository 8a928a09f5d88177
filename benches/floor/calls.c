/* System calls, timed: `calls PATH COUNT` prints what a getppid, a stat of PATH, and an open of it with its close took,
 * in nanoseconds; PATH is a file that can be read.
 *
 * The calls are taken in short turns, of which the fastest counts: what is to be known is their price, not who else
 * wanted the processor. Link it statically, so that the same program runs inside and outside. */

#include "floor.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { KINDS = 3, CALLS_A_TURN = 100 };

static void call(int kind, const char *path) {
    struct stat about;
    if (kind == 0)
        (void)getppid();
    else if (kind == 1)
        must(stat(path, &about), "stat");
    else
        must(close((int)must(open(path, O_RDONLY | O_CLOEXEC), "open")), "close");
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    int64_t least_ns[KINDS] = {INT64_MAX, INT64_MAX, INT64_MAX};
    for (int turns = atoi(words[2]) / CALLS_A_TURN; turns > 0; turns--)
        for (int kind = 0; kind < KINDS; kind++) {
            int64_t begun = now_ns();
            for (int calls = CALLS_A_TURN; calls > 0; calls--)
                call(kind, words[1]);
            int64_t took = now_ns() - begun;
            if (took < least_ns[kind])
                least_ns[kind] = took;
        }
    for (int kind = 0; kind < KINDS; kind++)
        printf("%.2f ", (double)least_ns[kind] / CALLS_A_TURN);
    return 0;
}
