//! How long it takes: `cargo test --release -p coldframe-core --lib -- --ignored --nocapture api::tests::latency`.
#![expect(clippy::print_stdout, reason = "what is measured is for a reader")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::client::{Client, get, post};
use super::{About, Api, ID, NEXT, News, Server, event, response};

const TURNS: usize = 5000;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// From an event to the response, and until the environment is idle.
fn invocations(api: &Api, turns: usize) -> (Duration, Duration) {
    let mut client = api.ready();
    let runtime = std::thread::spawn(move || {
        for _ in 0..turns {
            assert_eq!(client.answer().status, 200);
            assert_eq!(client.ask(post(&response(ID), &[], "1")).status, 202);
            client.send(get(NEXT));
        }
        client
    });
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let begun = Instant::now();
        api.session.invoke(event());
        assert!(matches!(api.news(), News::Response { .. }));
        times.0.push(begun.elapsed());
        assert_eq!((api.news(), api.news()), (News::RuntimeDone, News::Idle));
        times.1.push(begun.elapsed());
    }
    runtime.join().expect("the runtime");
    (median(times.0), median(times.1))
}

fn wait(fd: impl AsFd) {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).expect("poll");
}

/// The same ways with nothing at their ends: somebody wakes a thread, which writes to a client, which writes back to it, and
/// it wakes who woke it.
fn bare() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut near = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (mut far, _) = listener.accept().expect("a connection");
    near.set_nodelay(true).expect("no delay");
    far.set_nodelay(true).expect("no delay");
    let [there, back] = [(); 2].map(|()| eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"));
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut packet = [0; 136];
            for _ in 0..TURNS {
                wait(&there);
                rustix::io::read(&there, &mut [0; 8]).expect("read");
                far.write_all(&packet).expect("written");
                wait(&far);
                far.read_exact(&mut packet).expect("read");
                rustix::io::write(&back, &1_u64.to_ne_bytes()).expect("written");
            }
        });
        scope.spawn(|| {
            let mut packet = [0; 136];
            for _ in 0..TURNS {
                near.read_exact(&mut packet).expect("read");
                near.write_all(&packet).expect("written");
            }
        });
        for _ in 0..TURNS {
            let begun = Instant::now();
            rustix::io::write(&there, &1_u64.to_ne_bytes()).expect("written");
            wait(&back);
            rustix::io::read(&back, &mut [0; 8]).expect("read");
            times.push(begun.elapsed());
        }
    });
    median(times)
}

#[test]
#[ignore = "measures"]
fn how_long_an_invocation_takes() {
    for _ in 0..3 {
        let (response, idle) = invocations(&Api::new(&[]), TURNS);
        println!("event to response {response:?}, to idle {idle:?}; the same ways, bare, {:?}", bare());
    }
}

#[test]
#[ignore = "measures"]
fn how_long_it_takes_beside_somebody_who_floods_the_server() {
    let alone = invocations(&Api::new(&[]), 500).0;
    let api = Api::new(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let _other = api.server.serve(listener.into(), About::default()).expect("another session");
    let stop = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut clients: Vec<Client> = (0..8).map(|_| Client::new(address)).collect();
            let body = "x".repeat(1 << 20);
            while !stop.load(Ordering::Relaxed) {
                for client in &mut clients {
                    client.send(post("/nothing", &[], &body));
                }
                for client in &mut clients {
                    client.answer();
                }
            }
        });
        let beside = invocations(&api, 500).0;
        stop.store(true, Ordering::Relaxed);
        beside
    });
    println!("event to response {alone:?} alone, {beside:?} beside a flood");
}

#[test]
#[ignore = "measures"]
fn what_an_idle_session_holds() {
    const SESSIONS: usize = 200;
    let held = || {
        let status = std::fs::read_to_string("/proc/self/statm").expect("the size");
        status.split(' ').nth(1).expect("a number").parse::<usize>().expect("pages") * 4096
    };
    let server = Server::new();
    let next = get(NEXT);
    let mut all = Vec::with_capacity(SESSIONS);
    // The first one starts the thread.
    for before in [0, held()] {
        for _ in 0..SESSIONS {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let address = listener.local_addr().expect("its address");
            let session = server.serve(listener.into(), About::default()).expect("a session");
            session.start_init();
            let mut stream = TcpStream::connect(address).expect("a connection");
            stream.write_all(next.as_bytes()).expect("written");
            wait(session.signal());
            while session.news() != Some(News::Ready) {}
            all.push((session, stream));
        }
        println!("{} bytes for each session", (held() - before) / SESSIONS);
    }
}
