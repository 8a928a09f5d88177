/* hello.c */
#include <coldframe.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    coldframe_host *host = NULL;
    coldframe_function *greet = NULL;
    coldframe_invocation *result = NULL;
    const char *options = COLDFRAME_JSON({"memory_mb": 64, "timeout_s": 3});
    const char *event = COLDFRAME_JSON({"name": "Ada"});

    coldframe_error *error = coldframe_host_new(COLDFRAME_ABI, NULL, &host);
    if (!error)
        error = coldframe_function_new(host, "app.handler", "examples/hello", options, &greet);
    if (!error)
        error = coldframe_invoke(greet, event, strlen(event), NULL, &result);

    if (error)
        fprintf(stderr, "%s\n", error->message);
    else if (result->verdict == COLDFRAME_OK)
        printf("%s in %.1f ms\n", result->payload, result->report->duration_ms);
    else
        printf("%s: %s\n%s", result->error_type, result->error_message, result->log);

    int status = error || result->verdict != COLDFRAME_OK;
    coldframe_error_free(error);
    coldframe_invocation_free(result);
    coldframe_function_free(greet);
    coldframe_host_free(host);
    return status;
}
