//! Who has connected, where the network is the host's and anybody there could.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Whether the socket at the other end of a connection on this host is one of this host user's. The kernel says whose it is:
/// the user that made it, under which name a process cannot appear that is not.
pub fn is_of(user: u32, client: SocketAddr, server: SocketAddr) -> bool {
    let (SocketAddr::V4(client), SocketAddr::V4(server)) = (client, server) else { return false };
    // A socket for both families, such as Java's, is listed with those of the newer one.
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .any(|table| std::fs::read_to_string(table).is_ok_and(|table| owner(&table, client, server) == Some(user)))
}

/// Whose socket a table of sockets has from `local` to `remote`.
fn owner(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u32> {
    let wanted = [written(local), written(remote)];
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let ends = [fields.get(1)?, fields.get(2)?];
        let same = ends.iter().zip(&wanted).all(|(end, wanted)| **end == wanted[0] || **end == wanted[1]);
        if same { fields.get(7)?.parse().ok() } else { None }
    })
}

/// An address as the tables have it: words of the machine's byte order, and a port.
fn written(address: SocketAddrV4) -> [String; 2] {
    let mut text = String::new();
    let word = |octets: [u8; 4]| u32::from_ne_bytes(octets);
    let _ = write!(text, "{:08X}:{:04X}", word(Ipv4Addr::octets(address.ip())), address.port());
    let mapped = format!("{:08X}{:08X}{:08X}{text}", 0, 0, word([0, 0, 0xff, 0xff]));
    [text, mapped]
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_of_who_made_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
        let (accepted, peer) = listener.accept().expect("it comes");
        assert_eq!(peer, client.local_addr().expect("its address"));
        let user = rustix::process::getuid().as_raw();
        let server = accepted.local_addr().expect("its address");
        assert!(is_of(user, peer, server));
        assert!(!is_of(user + 1, peer, server));
        assert!(!is_of(user, server, SocketAddr::from(([127, 0, 0, 1], 1))), "no such connection");
    }

    #[test]
    fn both_tables_are_read() {
        let (local, remote) = ("127.0.0.1:40000".parse().expect("one"), "127.0.0.1:9001".parse().expect("one"));
        let [old, new] = [
            "   1: 0100007F:9C40 0100007F:2329 01 00000000:00000000 00:00000000 00000000  1007        0 3 1",
            "   1: 0000000000000000FFFF00000100007F:9C40 0000000000000000FFFF00000100007F:2329 01 0:0 0:0 0  1007  0 3 1",
        ];
        assert_eq!([old, new].map(|table| owner(table, local, remote)), [Some(1007); 2]);
        assert_eq!(owner(old, remote, local), None);
    }
}
