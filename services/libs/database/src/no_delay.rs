//! Nagle's algorithm (RFC 896) off. With it the last, short message of a COPY waits for the acknowledgement of the one before, which the
//! server's kernel holds back for 40 ms (RFC 1122, 4.2.3.2): a commit of 500 scores would take ten times as long.
//!
//! sqlx 0.9.0 leaves it on (transact-rs/sqlx#4335; mended there, not yet released) and gives nobody its sockets. To go with the next
//! release of sqlx.

use std::os::fd::BorrowedFd;

use rustix::net::sockopt::set_tcp_nodelay;

/// Sets `TCP_NODELAY` on every TCP socket of this process: none here is better off without it. Does nothing where there is no `/proc`.
pub(crate) fn set() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for number in numbers.collect::<Vec<i32>>() {
        // SAFETY: the number was that of an open file a moment ago. If it was closed since, or names another file by now, the call
        // fails, or sets the option on another socket of ours; nothing is read, written, closed or kept.
        #[allow(unsafe_code, reason = "sqlx has no way to its sockets")]
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        // Most are no TCP sockets, and say so.
        let _refused_or_not = set_tcp_nodelay(file, true);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn sockets_send_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!stream.nodelay().unwrap());
        super::set();
        assert!(stream.nodelay().unwrap());
    }
}
