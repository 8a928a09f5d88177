//! How long it takes. Run with `cargo test --release -p coldframe-core --lib -- --ignored --nocapture api::tests::latency`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::client::{get, post};
use super::{Api, ID, NEXT, News, event, response};

const TURNS: usize = 5000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "measures"]
fn how_long_an_invocation_takes() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    let runtime = std::thread::spawn(move || {
        for _ in 0..TURNS {
            assert_eq!(client.answer().status, 200);
            assert_eq!(client.ask(post(&response(ID), &[], "1")).status, 202);
            client.send(get(NEXT));
        }
        client
    });
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let begun = Instant::now();
        api.session.invoke(event());
        assert!(matches!(api.news(), News::Response { .. }));
        times.0.push(begun.elapsed());
        assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
        times.1.push(begun.elapsed());
    }
    drop(runtime.join());
    println!("event to response {:?}, to idle {:?}", median(times.0), median(times.1));

    // The same with nothing in between: a byte there and a byte back, between two threads.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let times = (0..TURNS).map(|_| {
        let begun = Instant::now();
        stream.write_all(&[1]).expect("written");
        stream.read_exact(&mut [0]).expect("read");
        begun.elapsed()
    });
    println!("a byte there and back {:?}", median(times.collect()));
    drop(stream);
    echo.join().expect("the echo");
}
