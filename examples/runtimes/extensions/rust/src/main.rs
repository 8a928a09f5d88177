//! Writes down what it is told: the invocations and the end.

use lambda_extension::{Error, LambdaEvent, NextEvent, run, service_fn};

async fn scribe(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => {
            println!("scribe: invocation {} of {}", invoke.request_id, invoke.invoked_function_arn)
        }
        NextEvent::Shutdown(shutdown) => println!("scribe: the end, {}", shutdown.shutdown_reason),
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(scribe)).await
}
