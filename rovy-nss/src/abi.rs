//! The functions that glibc calls. All `unsafe` of this crate is here: glibc passes raw pointers, and wants its answers in
//! a buffer of the caller's.
//!
//! What glibc promises (`nss/nss_files`, `resolv/nss_dns` are its own modules): names end in a zero byte, `buffer` has
//! `length` writable bytes, the other pointers are valid and writable unless they are said to be null here.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::Ipv6Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use libc::{AF_INET6, hostent, size_t, socklen_t};

use crate::{Found, address_of, name_of};

/// `enum nss_status` of glibc's `nss.h`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// Not now; with `ERANGE`: the buffer is too small.
    TryAgain = -2,
    /// This module has nothing to say.
    Unavailable = -1,
    /// There is no such name.
    NotFound = 0,
    /// Found.
    Success = 1,
}

/// `h_errno` of glibc's `netdb.h`.
mod host {
    use std::ffi::c_int;
    pub(super) const INTERNAL: c_int = -1;
    pub(super) const SUCCESS: c_int = 0;
    pub(super) const NOT_FOUND: c_int = 1;
    pub(super) const TRY_AGAIN: c_int = 2;
    pub(super) const NO_DATA: c_int = 4;
}

/// `struct gaih_addrtuple` of glibc's `nss.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressTuple {
    next: *mut AddressTuple,
    name: *mut c_char,
    family: c_int,
    address: [u8; 16],
    scope: u32,
}

/// Where a function says why not.
#[derive(Clone, Copy)]
struct Errors {
    errno: *mut c_int,
    host: *mut c_int,
}

impl Errors {
    /// Says it, and gives the status that belongs to it.
    fn say(self, status: Status, errno: c_int, host: c_int) -> Status {
        // SAFETY: glibc passes both or null.
        unsafe { put(self.errno, errno) };
        // SAFETY: as above.
        unsafe { put(self.host, host) };
        status
    }

    fn small(self) -> Status {
        self.say(Status::TryAgain, libc::ERANGE, host::INTERNAL)
    }

    /// What was not found.
    fn miss<T>(self, found: &Found<T>) -> Status {
        match found {
            Found::Elsewhere => self.say(Status::Unavailable, libc::ENOENT, host::NOT_FOUND),
            Found::Later => self.say(Status::TryAgain, libc::EAGAIN, host::TRY_AGAIN),
            Found::No | Found::Yes(..) => self.say(Status::NotFound, libc::ENOENT, host::NOT_FOUND),
        }
    }
}

/// Writes where there is a place.
///
/// # Safety
/// `to` is null, or valid for a write.
unsafe fn put<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: it is not null, and the caller says that it is valid then.
        unsafe { to.write(value) };
    }
}

/// The caller's buffer, handed out from its start.
struct Space {
    at: *mut u8,
    left: usize,
}

impl Space {
    /// Room for bytes at a multiple of `align`; `None` when it does not fit.
    fn take(&mut self, length: usize, align: usize) -> Option<*mut u8> {
        let skip = self.at.align_offset(align);
        let left = self.left.checked_sub(skip)?.checked_sub(length)?;
        // SAFETY: this stays inside of the buffer, or one behind its end: that was just checked.
        let start = unsafe { self.at.add(skip) };
        // SAFETY: as above.
        self.at = unsafe { start.add(length) };
        self.left = left;
        Some(start)
    }

    fn put<T>(&mut self, value: T) -> Option<*mut T> {
        let place = self.take(size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: it has the size and the alignment of a `T`, and nobody else has it.
        unsafe { place.write(value) };
        Some(place)
    }

    fn put_text(&mut self, text: &str) -> Option<*mut c_char> {
        let place = self.take(text.len() + 1, 1)?;
        // SAFETY: there is room for the text and a zero byte, in nobody else's hands.
        unsafe { place.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        // SAFETY: as above; this is the byte behind the text.
        let end = unsafe { place.add(text.len()) };
        // SAFETY: as above.
        unsafe { end.write(0) };
        Some(place.cast())
    }

    /// A `hostent` with one name and one address.
    fn put_host(&mut self, name: &str, address: Ipv6Addr) -> Option<hostent> {
        let none = self.put([null_mut::<c_char>()])?;
        let octets = self.put(address.octets())?;
        let list = self.put([octets.cast::<c_char>(), null_mut()])?;
        let name = self.put_text(name)?;
        Some(hostent {
            h_name: name,
            h_aliases: none.cast(),
            h_addrtype: AF_INET6,
            h_length: 16,
            h_addr_list: list.cast(),
        })
    }
}

/// Runs what must not end in a foreign program.
fn guarded(errors: Errors, f: impl FnOnce() -> Status) -> Status {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| errors.say(Status::Unavailable, libc::EAGAIN, host::NOT_FOUND))
}

/// The name that was asked for.
///
/// # Safety
/// `name` is null, or ends in a zero byte.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

/// `getaddrinfo` for any kind of address.
///
/// # Safety
/// glibc's promises: see the module. `list` points to null or to a tuple to be filled; `ttl` may be null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyname4_r(
    name: *const c_char,
    list: *mut *mut AddressTuple,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
    ttl: *mut i32,
) -> Status {
    let errors = Errors { errno, host: host_errno };
    guarded(errors, || {
        // SAFETY: glibc's promise.
        let Some(name) = (unsafe { text(name) }) else { return errors.miss(&Found::<()>::Elsewhere) };
        let found = address_of(name);
        let Found::Yes(address, seconds) = found else { return errors.miss(&found) };
        let mut space = Space { at: buffer.cast(), left: length };
        let Some(name) = space.put_text(name) else { return errors.small() };
        let tuple = AddressTuple { next: null_mut(), name, family: AF_INET6, address: address.octets(), scope: 0 };
        // SAFETY: glibc's promise: it points to null or to a tuple.
        let given = unsafe { *list };
        if given.is_null() {
            let Some(place) = space.put(tuple) else { return errors.small() };
            // SAFETY: glibc's promise: a valid place for a pointer.
            unsafe { list.write(place) };
        } else {
            // SAFETY: glibc's promise: a tuple to be filled.
            unsafe { given.write(tuple) };
        }
        // SAFETY: glibc passes it or null.
        unsafe { put(ttl, seconds.cast_signed()) };
        errors.say(Status::Success, 0, host::SUCCESS)
    })
}

/// `getaddrinfo` for one kind of address.
///
/// # Safety
/// glibc's promises: see the module. `ttl` and `canonical` may be null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyname3_r(
    name: *const c_char,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
    ttl: *mut i32,
    canonical: *mut *mut c_char,
) -> Status {
    let errors = Errors { errno, host: host_errno };
    guarded(errors, || {
        // SAFETY: glibc's promise.
        let Some(name) = (unsafe { text(name) }) else { return errors.miss(&Found::<()>::Elsewhere) };
        let found = address_of(name);
        let Found::Yes(address, seconds) = found else { return errors.miss(&found) };
        if family != AF_INET6 {
            return errors.say(Status::NotFound, libc::ENOENT, host::NO_DATA);
        }
        let mut space = Space { at: buffer.cast(), left: length };
        let Some(host) = space.put_host(name, address) else { return errors.small() };
        // SAFETY: glibc passes it or null.
        unsafe { put(canonical, host.h_name) };
        // SAFETY: glibc's promise: a valid place.
        unsafe { put(result, host) };
        // SAFETY: glibc passes it or null.
        unsafe { put(ttl, seconds.cast_signed()) };
        errors.say(Status::Success, 0, host::SUCCESS)
    })
}

/// `gethostbyname2`.
///
/// # Safety
/// glibc's promises: see the module.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyname2_r(
    name: *const c_char,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    // SAFETY: the same promises.
    unsafe {
        _nss_rovy_gethostbyname3_r(name, family, result, buffer, length, errno, host_errno, null_mut(), null_mut())
    }
}

/// `gethostbyname`, which is for IPv4.
///
/// # Safety
/// glibc's promises: see the module.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyname_r(
    name: *const c_char,
    result: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    // SAFETY: the same promises.
    unsafe { _nss_rovy_gethostbyname2_r(name, libc::AF_INET, result, buffer, length, errno, host_errno) }
}

/// `getnameinfo`.
///
/// # Safety
/// glibc's promises: see the module. `address` has `size` bytes; `ttl` may be null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyaddr2_r(
    address: *const c_void,
    size: socklen_t,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
    ttl: *mut i32,
) -> Status {
    let errors = Errors { errno, host: host_errno };
    guarded(errors, || {
        if family != AF_INET6 || size != 16 || address.is_null() {
            return errors.miss(&Found::<()>::Elsewhere);
        }
        // SAFETY: glibc's promise: 16 bytes. They need not be aligned, and bytes always are.
        let octets = unsafe { address.cast::<[u8; 16]>().read() };
        let found = name_of(octets.into());
        let Found::Yes(name, seconds) = found else { return errors.miss(&found) };
        let mut space = Space { at: buffer.cast(), left: length };
        let Some(host) = space.put_host(&name, octets.into()) else { return errors.small() };
        // SAFETY: glibc's promise: a valid place.
        unsafe { put(result, host) };
        // SAFETY: glibc passes it or null.
        unsafe { put(ttl, seconds.cast_signed()) };
        errors.say(Status::Success, 0, host::SUCCESS)
    })
}

/// `gethostbyaddr`.
///
/// # Safety
/// glibc's promises: see the module. `address` has `size` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn _nss_rovy_gethostbyaddr_r(
    address: *const c_void,
    size: socklen_t,
    family: c_int,
    result: *mut hostent,
    buffer: *mut c_char,
    length: size_t,
    errno: *mut c_int,
    host_errno: *mut c_int,
) -> Status {
    // SAFETY: the same promises.
    unsafe { _nss_rovy_gethostbyaddr2_r(address, size, family, result, buffer, length, errno, host_errno, null_mut()) }
}

#[cfg(test)]
mod tests;
