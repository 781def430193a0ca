//! Which local user holds the other end of a loopback connection: the kernel's own table says.

use std::io::{BufReader, Read as _};
use std::net::{IpAddr, SocketAddr};

use crate::limits;

/// The user at `remote`, whose connection leads to `local`; `None` if the kernel does not say.
pub(super) fn of_tcp(remote: SocketAddr, local: SocketAddr) -> Option<u32> {
    let path = if remote.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    let table = std::fs::File::open(path).ok()?.take(limits::SOCKET_TABLE_BYTES_MAX);
    find(BufReader::new(table), &row_of(remote), &row_of(local))
}

/// The row of their end: ours is that of us.
fn find(table: impl std::io::BufRead, remote: &str, local: &str) -> Option<u32> {
    table.lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let matches = fields.next()? == remote && fields.next()? == local;
        // After the two addresses: state, queues, timer, retransmits, uid.
        fields.nth(4).filter(|_| matches)?.parse().ok()
    })
}

/// An address as that table writes it: words of four bytes in the machine's order, hexadecimal.
#[expect(clippy::host_endian_bytes, reason = "the kernel prints its own words")]
fn row_of(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        bytes
            .chunks_exact(4)
            .filter_map(|word| word.try_into().ok())
            .map(|word: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(word)))
            .collect()
    };
    let host = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{host}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
    use super::*;

    #[test]
    fn the_other_end_of_a_connection_is_found_with_its_user() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, remote) = listener.accept().unwrap();
        let uid = of_tcp(remote, client.peer_addr().unwrap());
        let me = std::fs::metadata("/proc/self").map(|found| {
            use std::os::unix::fs::MetadataExt as _;
            found.uid()
        });
        assert_eq!(uid, Some(me.unwrap()));
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert_eq!(of_tcp(nobody, client.peer_addr().unwrap()), None);
    }
}
