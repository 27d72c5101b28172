use std::ffi::{CString, c_char};

use super::*;

const PEER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee.rovy";
const ADDRESS: &str = "fc89:54a1:b598:365f:357:d6a:b108:db7b";

fn address() -> Ipv6Addr {
    ADDRESS.parse().expect("an address")
}

/// Status, `errno` and `h_errno` of a call with a buffer of so many bytes, `shift` bytes behind an aligned place, and whether it
/// kept to them.
fn call(
    length: usize,
    shift: usize,
    f: impl FnOnce(*mut c_char, usize, *mut c_int, *mut c_int) -> Status,
) -> (Status, c_int, c_int) {
    let mut memory = vec![0xa5a5_a5a5_a5a5_a5a5_u64; (length + shift) / 8 + 3];
    let (mut errno, mut host) = (99, 99);
    let start = memory.as_mut_ptr().cast::<c_char>();
    // SAFETY: inside of the memory above.
    let status = f(unsafe { start.add(shift) }, length, &mut errno, &mut host);
    let bytes: Vec<u8> = memory.iter().flat_map(|word| word.to_ne_bytes()).collect();
    assert!(bytes[..shift].iter().chain(&bytes[shift + length..]).all(|b| *b == 0xa5), "it wrote beyond its buffer");
    (status, errno, host)
}

fn by_name(
    name: &str,
    family: c_int,
    length: usize,
    shift: usize,
) -> ((Status, c_int, c_int), Option<(String, Ipv6Addr)>) {
    let name = CString::new(name).expect("a name");
    let mut found = None;
    let said = call(length, shift, |buffer, length, errno, host| {
        // SAFETY: nothing but numbers and pointers, for which zero is a value.
        let mut result: hostent = unsafe { std::mem::zeroed() };
        let (mut ttl, mut canonical) = (0, null_mut());
        // SAFETY: everything is valid, as glibc's would be.
        let status = unsafe {
            _nss_rovy_gethostbyname3_r(
                name.as_ptr(),
                family,
                &mut result,
                buffer,
                length,
                errno,
                host,
                &mut ttl,
                &mut canonical,
            )
        };
        if status == Status::Success {
            assert_eq!((result.h_addrtype, result.h_length, ttl, canonical), (AF_INET6, 16, 3600, result.h_name));
            // SAFETY: the answer's pointers lead into the buffer.
            let name = unsafe { CStr::from_ptr(result.h_name) };
            // SAFETY: as above; the list has an address and an end.
            let [octets, end] = unsafe { result.h_addr_list.cast::<[*mut c_char; 2]>().read() };
            // SAFETY: as above.
            let octets = unsafe { octets.cast::<[u8; 16]>().read() };
            // SAFETY: as above.
            let aliases = unsafe { result.h_aliases.read() };
            assert!(end.is_null() && aliases.is_null());
            found = Some((name.to_str().expect("text").to_owned(), octets.into()));
        }
        status
    });
    (said, found)
}

#[test]
fn a_peer_is_found_in_every_buffer_that_is_large_enough() {
    for shift in 0..9 {
        let mut least = None;
        for length in 0..256 {
            let (said, found) = by_name(PEER, AF_INET6, length, shift);
            match found {
                Some(found) => {
                    assert_eq!((said, found), ((Status::Success, 0, 0), (PEER.to_owned(), address())));
                    least.get_or_insert(length);
                }
                None => {
                    assert_eq!(said, (Status::TryAgain, libc::ERANGE, host::INTERNAL), "{length} bytes");
                    assert_eq!(least, None, "{length} bytes were too few, but fewer were enough");
                }
            }
        }
        assert!(least.is_some_and(|n| n < 160), "{least:?}");
    }
}

#[test]
fn misses_say_whose_the_name_is() {
    let miss = |name, family| by_name(name, family, 1024, 0).0;
    assert_eq!(miss("example.com", AF_INET6), (Status::Unavailable, libc::ENOENT, host::NOT_FOUND));
    assert_eq!(miss("a.b.rovy", AF_INET6), (Status::NotFound, libc::ENOENT, host::NOT_FOUND));
    assert_eq!(miss(PEER, libc::AF_INET), (Status::NotFound, libc::ENOENT, host::NO_DATA));
    let no_text = call(64, 0, |buffer, length, errno, host| {
        // SAFETY: a name of bytes that are no text, and a null name, are the caller's to pass.
        unsafe { _nss_rovy_gethostbyname_r(c"\xff.rovy".as_ptr(), null_mut(), buffer, length, errno, host) }
    });
    assert_eq!(no_text.0, Status::Unavailable);
}

#[test]
fn lists_of_addresses_are_filled_or_made() {
    let name = CString::new(PEER).expect("a name");
    let empty = AddressTuple { next: null_mut(), name: null_mut(), family: 0, address: [0; 16], scope: 0 };
    for given in [true, false] {
        for length in 0..200 {
            let mut own = empty;
            let mut list = if given { &raw mut own } else { null_mut() };
            let mut shown = None;
            let said = call(length, 3, |buffer, length, errno, host| {
                // SAFETY: everything is valid, as glibc's would be; the time may be null.
                let status = unsafe {
                    _nss_rovy_gethostbyname4_r(name.as_ptr(), &mut list, buffer, length, errno, host, null_mut())
                };
                if status == Status::Success {
                    // SAFETY: the list leads to the tuple, whose name is in the buffer.
                    let tuple = unsafe { list.read() };
                    // SAFETY: as above.
                    shown = Some((tuple, unsafe { CStr::from_ptr(tuple.name) }.to_owned()));
                }
                status
            });
            match shown {
                Some((tuple, shown)) => {
                    assert_eq!((shown, tuple.family, tuple.scope), (name.clone(), AF_INET6, 0));
                    assert_eq!(Ipv6Addr::from(tuple.address), address());
                    assert!(tuple.next.is_null());
                }
                None => assert!(length < 128 && said == (Status::TryAgain, libc::ERANGE, host::INTERNAL), "{length}"),
            }
        }
    }
}

#[test]
fn addresses_of_others_are_not_ours() {
    for (address, family) in [(&[0_u8; 16][..], AF_INET6), (&[127, 0, 0, 1], libc::AF_INET), (&[0xfc; 4], AF_INET6)] {
        let said = call(256, 0, |buffer, length, errno, host| {
            let (place, size) = (address.as_ptr().cast(), address.len() as socklen_t);
            // SAFETY: the address has its size; nothing is found, so the result may be null.
            unsafe { _nss_rovy_gethostbyaddr_r(place, size, family, null_mut(), buffer, length, errno, host) }
        });
        assert_eq!(said.0, Status::Unavailable);
    }
}

#[test]
fn the_tuple_is_laid_out_as_in_glibc() {
    use std::mem::offset_of;
    assert_eq!(size_of::<AddressTuple>(), 2 * size_of::<usize>() + 24);
    let at = [offset_of!(AddressTuple, name), offset_of!(AddressTuple, family), offset_of!(AddressTuple, address)];
    assert_eq!(at, [size_of::<usize>(), 2 * size_of::<usize>(), 2 * size_of::<usize>() + 4]);
    assert_eq!(offset_of!(AddressTuple, scope), 2 * size_of::<usize>() + 20);
}
