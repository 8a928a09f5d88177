// Greets a guest, and counts them.

import { setTimeout as sleep } from "node:timers/promises";

let guests = 0;

class Nobody extends Error {
  name = "Nobody";
}

function greet(event) {
  if (!event.name) {
    throw new Nobody("nobody to greet");
  }
  guests += 1;
  console.log(`greeting ${event.name}`);
  return `${process.env.GREETING ?? "Hello"}, ${event.name}!`;
}

export async function handler(event, context) {
  if ("exit" in event) {
    process.exit(event.exit);
  }
  await sleep(event.sleep_ms ?? 0);
  return {
    greeting: greet(event),
    guests,
    text: event.text ?? "",
    request_id: context.awsRequestId,
    arn: context.invokedFunctionArn,
    function: context.functionName,
    remaining_ms: context.getRemainingTimeInMillis(),
  };
}

// The greeting word by word, with a pause before each but the first.
export const stream = awslambda.streamifyResponse(async (event, response) => {
  const words = greet(event).split(" ");
  response.setContentType("text/plain; charset=utf-8");
  for (const [index, word] of words.entries()) {
    if (index > 0) {
      await sleep(event.sleep_ms ?? 0);
    }
    response.write(`${word} `);
  }
  if (event.fail) {
    throw new Nobody("gone in the middle");
  }
  response.end();
});
