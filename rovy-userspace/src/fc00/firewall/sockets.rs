//! Connections this host has, as the kernel lists them.

use std::io;
use std::net::Ipv6Addr;

/// A socket with both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connected {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// The end here.
    pub local: (Ipv6Addr, u16),
    /// The other end.
    pub remote: (Ipv6Addr, u16),
}

/// `TCP_LISTEN` and `TCP_SYN_RECV`: whoever asks to be let in is not let in by that.
const ASKING: [u8; 2] = [10, 3];

/// The connections of the calling thread's network namespace over IPv6.
///
/// # Errors
/// The lists cannot be read.
pub fn connected() -> io::Result<Vec<Connected>> {
    let mut all = Vec::new();
    for (name, tcp) in [("tcp6", true), ("udp6", false)] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))?;
        all.extend(text.lines().filter_map(|line| read(line, tcp)));
    }
    Ok(all)
}

/// A line of `/proc/net/tcp6` or `udp6`: number, local and remote end, state, and more.
fn read(line: &str, tcp: bool) -> Option<Connected> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (end(words.next()?)?, end(words.next()?)?);
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let asking = tcp && ASKING.contains(&state);
    (!asking && !remote.0.is_unspecified()).then_some(Connected { tcp, local, remote })
}

/// `ADDRESS:PORT` in hex. The address is written as four numbers of the machine's byte order.
fn end(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut octets = [0; 16];
    for (i, word) in octets.chunks_exact_mut(4).enumerate() {
        let number = u32::from_str_radix(address.get(8 * i..8 * i + 8)?, 16).ok()?;
        word.copy_from_slice(&number.to_ne_bytes());
    }
    (address.len() == 32).then_some((octets.into(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernel_are_read() {
        let line = "   1: 01000CFC000000000000000000000100:C350 02000CFC000000000000000000000200:0050 01 00000000:00000000 02:0";
        let found = read(line, true).unwrap();
        assert_eq!(found.local, ("fc0c:1::1:0".parse().unwrap(), 50000));
        assert_eq!(found.remote, ("fc0c:2::2:0".parse().unwrap(), 80));
        assert!(read(&line.replace(" 01 ", " 0A "), true).is_none(), "it listens");
        assert!(read(&line.replace(" 01 ", " 03 "), true).is_none(), "somebody asks");
        let nobody = "   2: 01000CFC000000000000000000000100:0035 00000000000000000000000000000000:0000 07 0 ";
        assert!(read(nobody, false).is_none(), "it is connected to nobody");
        for bad in ["", "sl local_address remote_address st", "1: 0:0 0:0 1", &line[..60]] {
            assert!(read(bad, true).is_none(), "{bad}");
        }
    }

    /// A pair of connected sockets on the loopback interface is among what the kernel lists.
    #[test]
    fn what_the_kernel_lists_holds_the_sockets_of_this_process() {
        let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
        let at = listener.local_addr().unwrap();
        let out = std::net::TcpStream::connect(at).unwrap();
        let here = out.local_addr().unwrap();
        let wanted = Connected {
            tcp: true,
            local: (Ipv6Addr::LOCALHOST, here.port()),
            remote: (Ipv6Addr::LOCALHOST, at.port()),
        };
        assert!(connected().unwrap().contains(&wanted));
    }
}
