/*
 * Grades a program that nobody has read: every line of standard input is an event for it, two threads put them through
 * environments of its own, and every line of output is a verdict, in the order of the events.
 *
 *     printf '%s\n' '{"numbers": [3, 1, 2]}' '{}' | ./grade submission.handler ../../grader/submissions/right
 *
 * It may loop, hoard, fork, flood or leave: that is a verdict here, and nothing that this program would notice. Exits with 0
 * if every event was answered, 1 if not, 2 if the function cannot be.
 */
#include <coldframe.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EVENTS = 1000, LONGEST_EVENT = 1 << 16, THREADS = 2 };

/* A small machine for each event, which learns nothing from the one before. */
static const char *const OPTIONS = COLDFRAME_JSON({
    "memory_mb": 64,
    "timeout_s": 1,
    "log_kb": 64,
    "max_processes": 16,
    "packages": "none",
    "reuse": false
});

typedef struct work {
    coldframe_function *function;
    char *events[MOST_EVENTS];
    char *verdicts[MOST_EVENTS];
    size_t count, next;
    int failed;
    pthread_mutex_t lock;
} work;

/* What is printed of one event. */
static char *shown(const coldframe_invocation *result, const coldframe_error *error)
{
    static const char *const WORDS[] = {"OK ", "RE ", "RE ", "TLE", "MLE", "RE ", "RE "};
    const char *word = "???", *what = "";
    if (error) {
        word = "ERR", what = error->message;
    } else {
        if (result->verdict >= 0 && (size_t)result->verdict < sizeof WORDS / sizeof *WORDS)
            word = WORDS[result->verdict];
        what = result->verdict == COLDFRAME_OK ? result->payload : result->error_type;
    }
    size_t size = strlen(what) + 64;
    char *line = (char *)malloc(size);
    if (line)
        snprintf(line, size, "%s %s", word, what);
    return line;
}

/* Takes events until there are no more: what every thread does. */
static void *take(void *argument)
{
    work *all = (work *)argument;
    for (;;) {
        pthread_mutex_lock(&all->lock);
        size_t mine = all->next < all->count ? all->next++ : all->count;
        pthread_mutex_unlock(&all->lock);
        if (mine == all->count)
            return NULL;
        coldframe_invocation *result = NULL;
        coldframe_error *error =
            coldframe_invoke(all->function, all->events[mine], strlen(all->events[mine]), NULL, &result);
        all->verdicts[mine] = shown(result, error);
        if (error || result->verdict != COLDFRAME_OK) {
            pthread_mutex_lock(&all->lock);
            all->failed = 1;
            pthread_mutex_unlock(&all->lock);
        }
        coldframe_invocation_free(result);
        coldframe_error_free(error);
    }
}

/* Reads events, one a line. Returns 0, or -1 if a line or their number is too large. */
static int read_events(work *all, FILE *file)
{
    static char line[LONGEST_EVENT];
    while (fgets(line, sizeof line, file)) {
        size_t size = strcspn(line, "\n");
        if (all->count == MOST_EVENTS || (line[size] != '\n' && !feof(file)))
            return -1;
        line[size] = '\0';
        if (!(all->events[all->count] = (char *)malloc(size + 1)))
            return -1;
        memcpy(all->events[all->count++], line, size + 1);
    }
    return 0;
}

static int grade(work *all)
{
    pthread_t threads[THREADS];
    int started = 0;
    while (started < THREADS && pthread_create(&threads[started], NULL, take, all) == 0)
        started++;
    if (!started)
        take(all);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < all->count; i++) {
        puts(all->verdicts[i] ? all->verdicts[i] : "ERR no memory");
        free(all->verdicts[i]);
        free(all->events[i]);
    }
    return all->failed;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s HANDLER CODE < EVENTS\n", argv[0]);
        return 2;
    }
    static work all;
    pthread_mutex_init(&all.lock, NULL);
    if (read_events(&all, stdin) != 0) {
        fprintf(stderr, "at most %d events of %d bytes each\n", MOST_EVENTS, LONGEST_EVENT);
        return 2;
    }
    coldframe_host *host = NULL;
    int status = 2;
    coldframe_error *error = coldframe_host_new(COLDFRAME_ABI, NULL, &host);
    if (!error)
        error = coldframe_function_new(host, argv[1], argv[2], OPTIONS, &all.function);
    if (error)
        fprintf(stderr, "%s\n", error->message);
    else
        status = grade(&all);
    coldframe_error_free(error);
    coldframe_function_free(all.function);
    coldframe_host_free(host);
    pthread_mutex_destroy(&all.lock);
    return status;
}
