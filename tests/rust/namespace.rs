//! Tests that run in a network namespace of their own, which goes with their process, and TAP devices in it.

// Each test program uses some of it.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

/// Of `linux/if_tun.h`.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;
pub const IFF_VNET_HDR: i16 = 0x4000;

/// Runs a test again in a network namespace of its own; true where it is there already. A machine that has none to give
/// skips the test with the sentence that names what lacks, but not in CI.
pub fn in_a_namespace(test: &str) -> bool {
    const INSIDE: &str = "VNET_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = rustix::process::geteuid().is_root();
    let unshare = |words: &[&OsStr]| {
        let mut command = Command::new("unshare");
        command.arg("--net").args((!root).then_some("--map-root-user")).args(words);
        command.env(INSIDE, "1").output().expect("unshare of util-linux")
    };
    let device = File::options().read(true).write(true).open("/dev/net/tun").map_err(|error| error.to_string());
    let namespace = Some(unshare(&["true".as_ref()])).filter(|done| !done.status.success());
    let namespace = namespace.map(|done| String::from_utf8_lossy(&done.stderr).into_owned());
    if let Some(lacking) = namespace.or(device.err().map(|error| format!("/dev/net/tun: {error}"))) {
        assert!(std::env::var_os("CI").is_none(), "{lacking}");
        eprintln!("{test} was skipped: {lacking}");
        return false;
    }
    let own = std::env::current_exe().expect("the test's own program");
    let done = unshare(&[own.as_ref(), "--exact".as_ref(), test.as_ref(), "--nocapture".as_ref()]);
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// A TAP device in a namespace of our own.
pub fn tap(name: &str, flags: i16) -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
    // `struct ifreq`: 16 bytes of name, a union that begins with the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TAP | IFF_NO_PI | flags).to_ne_bytes());
    // SAFETY: the request is as long as the kernel's `struct ifreq`, which is all that it reads and writes.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(done, 0, "a TAP in a namespace of our own: {}", std::io::Error::last_os_error());
    file
}

/// Runs `ip` of iproute2 with these words.
pub fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("ip of iproute2");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Sets one of the kernel's settings of this namespace.
pub fn set(what: &str, value: &str) {
    let path = format!("/proc/sys/net/{what}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}
