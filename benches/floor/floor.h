/* What the floors share: a number on standard input asks for so many rounds, and as many lines on standard output say
 * what each took, in nanoseconds. */

#ifndef FLOOR_H
#define FLOOR_H

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Every step is needed: a floor that skipped one would be too low. */
static inline long must(long result, const char *step) {
    if (result < 0) {
        perror(step);
        exit(1);
    }
    return result;
}

static inline int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Rounds are asked for as they are needed, so that they can be taken in turn with what they are compared with. */
static inline void serve(int64_t (*round_ns)(void)) {
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        for (int rounds = atoi(line); rounds > 0; rounds--)
            printf("%lld\n", (long long)round_ns());
        fflush(stdout);
    }
}

#endif
