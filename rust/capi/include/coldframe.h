/*
 * coldframe: runs AWS-Lambda-style handlers, each in an isolated Linux process of its own.
 *
 *     coldframe_host *host = NULL;
 *     coldframe_function *greet = NULL;
 *     coldframe_invocation *result = NULL;
 *     coldframe_error *error = coldframe_host_new(COLDFRAME_ABI, NULL, &host);
 *     if (!error) error = coldframe_function_new(host, "app.handler", "examples/hello",
 *                                                COLDFRAME_JSON({"memory_mb": 64, "timeout_s": 1}), &greet);
 *     const char *event = COLDFRAME_JSON({"name": "Ada"});
 *     if (!error) error = coldframe_invoke(greet, event, strlen(event), NULL, &result);
 *     if (error) fprintf(stderr, "%s\n", error->message);
 *     else puts(result->verdict == COLDFRAME_OK ? result->payload : result->error);
 *     coldframe_error_free(error);
 *     coldframe_invocation_free(result);
 *     coldframe_function_free(greet);
 *     coldframe_host_free(host);
 *
 * Errors. A function that can fail returns NULL, or an error that the caller frees. What went wrong inside an
 * environment is no error but the verdict of an invocation. Where there is an error there is no result: the place for
 * it holds NULL.
 *
 * Threads. Every function may be called from any thread at any time, also several at once with the same host, function
 * or call; what a function says of threads beyond that stands with it. The one exception are the functions whose names
 * end in _free: nobody may use what they are given at the same time or afterwards, and freeing twice is undefined, as
 * with free(). Freeing NULL does nothing. A host, its functions and its calls may be freed in any order: a function
 * whose host was freed answers COLDFRAME_ERROR_CLOSED.
 *
 * Texts are UTF-8 and end with a NUL. A NULL where something has to be, or a text that is no UTF-8, is
 * COLDFRAME_ERROR_MISUSE. What this library gives out is valid until its owner is freed, and is not to be changed.
 *
 * Processes. The library installs no signal handlers, waits for no children but its own, and leaves nothing behind; if
 * the process is killed the kernel ends the environments. A signal does not end a call; coldframe_call_cancel does. In
 * a child that was forked off, the hosts and functions of the parent answer COLDFRAME_ERROR_CLOSED, may be freed, and
 * go on in the parent; the child makes its own host.
 *
 * ABI. A program that was built with this header works with every later library of the same soname, libcoldframe.so.1.
 * Structures are made by the library alone, and get new fields at their ends only; functions, verdicts, error codes
 * and options are added and never change. coldframe_host_new refuses a program whose header is newer than the library.
 */
#ifndef COLDFRAME_H
#define COLDFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of this header; coldframe_version() has the library's. */
#define COLDFRAME_VERSION "0.1.0"

/* Counts what was added to this header; coldframe_abi() has the library's. */
#define COLDFRAME_ABI 1

/* JSON without quoting: COLDFRAME_JSON({"memory_mb": 64}) is "{\"memory_mb\": 64}". */
#define COLDFRAME_JSON(...) #__VA_ARGS__

#if defined(__GNUC__)
#define COLDFRAME_CHECKED __attribute__((warn_unused_result))
#else
#define COLDFRAME_CHECKED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Creates, reuses, freezes, evicts and destroys execution environments. */
typedef struct coldframe_host coldframe_host;

/* A handler with its code and its limits. */
typedef struct coldframe_function coldframe_function;

/* What goes with one invocation, and the handle by which it is cancelled. */
typedef struct coldframe_call coldframe_call;

/* Why something could not be done. */
typedef struct coldframe_error {
    int code;            /* a coldframe_error_code; later versions may have more */
    const char *message; /* what happened, to what, and what to do about it */
} coldframe_error;

typedef enum coldframe_error_code {
    COLDFRAME_ERROR_CONFIGURATION = 1,   /* the function or the host cannot exist as it is described */
    COLDFRAME_ERROR_HOST_CAPABILITY = 2, /* this machine cannot give the isolation that was asked for */
    COLDFRAME_ERROR_THROTTLED = 3,       /* concurrency or memory of the host is used up: Lambda's 429 */
    COLDFRAME_ERROR_PAYLOAD = 4,         /* the event is too large, or the client context no JSON object */
    COLDFRAME_ERROR_CANCELLED = 5,       /* by coldframe_call_cancel */
    COLDFRAME_ERROR_CLOSED = 6,          /* the host or the function is closed, or the parent process's */
    COLDFRAME_ERROR_SYSTEM = 7,          /* a kernel call failed */
    COLDFRAME_ERROR_DEFECT = 8,          /* coldframe itself is wrong; please report it */
    COLDFRAME_ERROR_MISUSE = 9,          /* a NULL, no UTF-8, a header of another ABI */
    COLDFRAME_ERROR_INITIALISATION = 10  /* the function could not be initialised; of coldframe_host_prewarm */
} coldframe_error_code;

/* How an invocation ended. */
typedef enum coldframe_verdict {
    COLDFRAME_OK = 0,            /* the handler returned */
    COLDFRAME_HANDLER_ERROR = 1, /* the handler raised; error_type is the exception's own name */
    COLDFRAME_INIT_ERROR = 2,    /* Runtime.ImportModuleError, Runtime.HandlerNotFound, ... */
    COLDFRAME_TIMEOUT = 3,       /* Sandbox.Timedout */
    COLDFRAME_OUT_OF_MEMORY = 4, /* Runtime.OutOfMemory */
    COLDFRAME_EXIT = 5,          /* Runtime.ExitError: the process ended or was killed */
    COLDFRAME_PAYLOAD_ERROR = 6  /* the event or the response is no JSON, or the response is too large */
} coldframe_verdict;

/* How an environment came to serve an event. */
typedef enum coldframe_start {
    COLDFRAME_COLD = 0,    /* it was made for it */
    COLDFRAME_WARM = 1,    /* it had served before */
    COLDFRAME_RESTORED = 2 /* with "snapstart": it is a copy of the initialised function */
} coldframe_start;

/* What one invocation took, as Lambda's REPORT line has it and a little more. */
typedef struct coldframe_report {
    int start;                   /* a coldframe_start */
    double duration_ms;          /* wall clock of the handler */
    uint64_t billed_duration_ms; /* the same in whole milliseconds, rounded up */
    double init_duration_ms;     /* -1 when the environment was warm */
    double restore_duration_ms;  /* -1 unless it was restored */
    uint64_t memory_mb;          /* the cap, in MiB */
    uint64_t max_memory_mb;      /* the peak of the whole environment, in MiB */
    double cpu_ms;               /* processor time of all its processes */
    double throttled_ms;         /* time that it stood still for having used up its share */
    uint64_t log_dropped_bytes;  /* output that was over "log_kb" and is not in the log */
    const char *environment_id;
} coldframe_report;

/*
 * What came of one event. Everything in it is the invocation's own and is valid until that is freed. Texts with a size
 * are the environment's bytes as they are, with a NUL after them; in the others a NUL of the environment's is U+FFFD.
 */
typedef struct coldframe_invocation {
    int verdict; /* a coldframe_verdict */
    const char *request_id;
    const char *payload; /* what the handler returned, as JSON; NULL when it failed */
    size_t payload_size;
    const char *error; /* Lambda's error JSON, with errorType, errorMessage and stackTrace; NULL when all went well */
    size_t error_size;
    const char *error_type;         /* the same, read: NULL when all went well */
    const char *error_message;      /* may be empty; NULL when all went well */
    const char *const *stack_trace; /* frames as the handler's language has them, the innermost last; NULL if none */
    size_t stack_trace_size;
    const char *log; /* stdout and stderr, with Lambda's START, END and REPORT lines */
    size_t log_size;
    const coldframe_report *report;
} coldframe_invocation;

/* The library's version, such as "0.1.0". Never fails. */
const char *coldframe_version(void);

/* The newest COLDFRAME_ABI that the library takes. Never fails. */
uint32_t coldframe_abi(void);

/*
 * Makes a host. `abi` is COLDFRAME_ABI. `options` is a JSON object, or NULL for the defaults:
 *
 *   {"max_concurrency": 1000,   invocations in flight at a time, of all functions
 *    "max_memory_mb": null,     memory in use by all environments; null is 80% of what the caller's cgroup may use
 *    "idle_timeout_s": 600,     after which an idle environment is destroyed
 *    "freeze": true,            whether idle environments are frozen
 *    "freeze_after_ms": 0,      how long after an answer
 *    "cgroup": null}            "take" allows moving the caller's processes into a leaf of their own cgroup
 */
COLDFRAME_CHECKED coldframe_error *coldframe_host_new(uint32_t abi, const char *options, coldframe_host **host);

/* Makes `count` initialised environments of a function of this host ahead of need. */
COLDFRAME_CHECKED coldframe_error *coldframe_host_prewarm(coldframe_host *host, coldframe_function *function, size_t count);

/*
 * What has happened beside the invocations since this was last called, for the caller's log: a JSON list of {"level":
 * "debug" | "info" | "warning" | "error", "message": "..."}, which the caller frees with coldframe_text_free. Of what
 * nobody asks for, the latest thousand are kept.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_host_news(coldframe_host *host, char **news);

/*
 * Destroys every environment. Invocations in flight, in other threads, end with COLDFRAME_EXIT; whatever is done with
 * the host and its functions afterwards is COLDFRAME_ERROR_CLOSED. Takes ten seconds at most; fails if something would
 * not die within them, which the next host collects. Does nothing the second time.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_host_close(coldframe_host *host);

/* Closes a host if that was not done, and frees it. */
void coldframe_host_free(coldframe_host *host);

/*
 * Makes a function. Its code is read here, once: later edits want a new function. `handler` is in Lambda's notation,
 * "module.function"; `code` a directory, a .py file or a .zip. `options` is a JSON object, or NULL for the defaults:
 *
 *   {"name": null,              AWS_LAMBDA_FUNCTION_NAME; null makes one of the code's name
 *    "runtime": "python",       python3 on PATH; or the path of a CPython, 3.9 or later; or "provided"
 *    "memory_mb": 128,          hard cap of the whole environment, 32 to 10240; the processor's share follows it
 *    "timeout_s": 3,            wall clock of one invocation, up to 900
 *    "tmp_mb": 512,             size of /tmp
 *    "max_processes": 1024,     processes and threads together
 *    "log_kb": 1024,            how much of one invocation's output is kept
 *    "env": {},                 the handler's variables
 *    "layers": [],              up to five directories or .zip files, laid over one another under /opt
 *    "architecture": null,      "x86_64" or "arm64"; null is this machine's
 *    "network": false,          true is the host's network
 *    "packages": "inherit",     the interpreter's installed packages are readable; "none": they are not
 *    "preload": [],             modules to import once, before environments are forked; never the function's own
 *    "isolation": "strict",     or "available": goes on without what the host lacks
 *    "reserved_concurrency": null,
 *    "snapstart": false,        initialise once, and restore copies
 *    "reuse": true,             false gives every event a fresh environment
 *    "mounts": {},              {"/mnt/data": "/srv/data", "/mnt/out": ["/srv/out", "rw"]}
 *    "hardening": {}}           {"proc": "pid" | "masked", "noexec_tmp": false, "on_unclean": "error" | "cold",
 *                                "max_code_mb": 250, "max_zip_mb": 50, "max_image_mb": 10240}
 *
 * An option that is misspelt or out of range is COLDFRAME_ERROR_CONFIGURATION.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_function_new(coldframe_host *host, const char *handler, const char *code,
                                                          const char *options, coldframe_function **function);

/* Every protection, and what of it is in force: a JSON object of texts, valid as long as the function. NULL for NULL. */
const char *coldframe_function_isolation(const coldframe_function *function);

/* Retires a function's environments; it cannot be invoked afterwards. Does nothing the second time. */
COLDFRAME_CHECKED coldframe_error *coldframe_function_close(coldframe_function *function);

/* Closes a function if that was not done, and frees it. */
void coldframe_function_free(coldframe_function *function);

/* What goes with invocations: one at a time, and again until it was cancelled. */
coldframe_call *coldframe_call_new(void);

/* Seconds for the invocation, above 0 and up to 900, instead of the function's own. */
COLDFRAME_CHECKED coldframe_error *coldframe_call_set_timeout_s(coldframe_call *call, double timeout_s);

/* What the handler finds as context.client_context: a JSON object of `size` bytes, which is copied. */
COLDFRAME_CHECKED coldframe_error *coldframe_call_set_client_context(coldframe_call *call, const void *json, size_t size);

/* What the handler finds as _X_AMZN_TRACE_ID: X-Ray's header, such as "Root=1-...;Parent=...;Sampled=1". It is copied. */
COLDFRAME_CHECKED coldframe_error *coldframe_call_set_trace_id(coldframe_call *call, const char *trace_id);

/* Whether to wait for room where coldframe_invoke would return COLDFRAME_ERROR_THROTTLED for its number. */
COLDFRAME_CHECKED coldframe_error *coldframe_call_set_wait(coldframe_call *call, bool wait);

/*
 * Kills the environment that runs the invocation, which returns COLDFRAME_ERROR_CANCELLED in its thread; one that has
 * not begun will not. For any thread, but not for signal handlers.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_call_cancel(coldframe_call *call);

/* Frees a call; not while coldframe_invoke uses it. */
void coldframe_call_free(coldframe_call *call);

/*
 * Puts one event, `size` bytes of JSON, through one environment, and waits for what comes of it. `call` may be NULL.
 * Invocations of different threads run side by side. A handler that fails is an invocation, which the caller frees,
 * and no error.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_invoke(coldframe_function *function, const void *event, size_t size,
                                                    coldframe_call *call, coldframe_invocation **invocation);

/* Frees an invocation and everything in it. */
void coldframe_invocation_free(coldframe_invocation *invocation);

/*
 * Every protection of this machine, as `coldframe doctor` lists them: a JSON list of {"protection": "...", "in_force":
 * true, "detail": "...", "remedy": null}, which the caller frees with coldframe_text_free.
 */
COLDFRAME_CHECKED coldframe_error *coldframe_doctor(char **report);

/* Frees a text that coldframe_host_news or coldframe_doctor has made. */
void coldframe_text_free(char *text);

/* Frees an error. */
void coldframe_error_free(coldframe_error *error);

#ifdef __cplusplus
}
#endif

#endif
