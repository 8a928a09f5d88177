package example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.LinkedHashMap;
import java.util.Map;

/** Greets a guest, and counts them. */
public class Greeter implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private int guests = 0;

    /** There is no name in the event. */
    public static class Nobody extends RuntimeException {
        Nobody() {
            super("nobody to greet");
        }
    }

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        if (event.get("exit") instanceof Number status) {
            System.exit(status.intValue());
        }
        if (event.get("sleep_ms") instanceof Number pause) {
            try {
                Thread.sleep(pause.longValue());
            } catch (InterruptedException interrupted) {
                throw new IllegalStateException(interrupted);
            }
        }
        if (!(event.get("name") instanceof String name) || name.isEmpty()) {
            throw new Nobody();
        }
        guests += 1;
        context.getLogger().log("greeting " + name + "\n");
        Map<String, Object> response = new LinkedHashMap<>();
        response.put("greeting", System.getenv().getOrDefault("GREETING", "Hello") + ", " + name + "!");
        response.put("guests", guests);
        response.put("text", event.getOrDefault("text", ""));
        response.put("request_id", context.getAwsRequestId());
        response.put("arn", context.getInvokedFunctionArn());
        response.put("function", context.getFunctionName());
        response.put("remaining_ms", context.getRemainingTimeInMillis());
        return response;
    }
}
