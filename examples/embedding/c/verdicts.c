/*
 * What becomes of handlers that know no bounds, and of a call that has half a second.
 *
 *     ./verdicts examples/limits
 */
#include <coldframe.h>
#include <stdio.h>

/* Says what became of an event. Later versions may have more verdicts. */
static void tell(const coldframe_invocation *result)
{
    switch (result->verdict) {
    case COLDFRAME_OK: printf("%s\n", result->payload); break;
    case COLDFRAME_TIMEOUT: printf("too slow: %.0f ms\n", result->report->duration_ms); break;
    case COLDFRAME_OUT_OF_MEMORY: printf("over its %d MB\n", (int)result->report->memory_mb); break;
    default: printf("%s: %s\n", result->error_type, result->error_message); break;
    }
}

/* Gives one invocation less time than its function has. */
static coldframe_error *hurry(coldframe_function *function, coldframe_invocation **result)
{
    coldframe_call *call = coldframe_call_new();
    coldframe_error *error = coldframe_call_set_timeout_s(call, 0.5);
    if (!error) /* meanwhile another thread may call coldframe_call_cancel(call) */
        error = coldframe_invoke(function, "{}", 2, call, result);
    coldframe_call_free(call);
    return error;
}

/* Makes a function of the directory, and tells what becomes of one event. */
static coldframe_error *try_handler(coldframe_host *host, const char *handler, const char *code)
{
    coldframe_function *function = NULL;
    coldframe_invocation *result = NULL;
    coldframe_error *error =
        coldframe_function_new(host, handler, code, COLDFRAME_JSON({"memory_mb": 256, "timeout_s": 30}), &function);
    if (!error)
        error = hurry(function, &result);
    if (!error)
        tell(result);
    coldframe_invocation_free(result);
    coldframe_function_free(function);
    return error;
}

int main(int argc, char **argv)
{
    const char *code = argc > 1 ? argv[1] : "examples/limits";
    coldframe_host *host = NULL;
    coldframe_error *error = coldframe_host_new(COLDFRAME_ABI, NULL, &host);
    if (!error)
        error = try_handler(host, "app.linger", code);
    if (!error)
        error = try_handler(host, "app.nobody", code);
    int failed = error != NULL;
    if (error)
        fprintf(stderr, "%s\n", error->message);
    coldframe_error_free(error);
    coldframe_host_free(host);
    return failed;
}
