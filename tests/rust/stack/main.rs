//! Stacks against stacks, over a wire that a seed drives: connections, listening, closing, loss.

mod fragments;
mod hostile;
mod net;
mod windows;

use net::{A, B, MICROSECOND, MILLISECOND, Pair, SECOND, any, end};
use vnet_drivers::stack::{Cause, Listening, OpenError, SOCKETS, Tcp, TcpOptions, TcpState, UdpOptions};

fn connected(pair: &mut Pair, listening: &Listening, port: u16) -> (Tcp, Tcp) {
    let client = pair.a.connect(end(B, port), any(0), &TcpOptions::default()).expect("room for a connection");
    let mut server = None;
    pair.run(10 * SECOND, |pair| {
        server = server.take().or_else(|| pair.b.accept(listening));
        server.is_some() && pair.a.state(&client) == TcpState::Open
    });
    (client, server.expect("an accepted connection"))
}

fn listener(pair: &mut Pair, backlog: usize) -> Listening {
    pair.b.listen(any(80), backlog, &TcpOptions::default()).expect("a free port")
}

/// Byte number `at` of the stream that the tests send.
fn byte(at: usize) -> u8 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// Sends `total` bytes from a to b, checks each, and returns how many nanoseconds it took.
fn transfer(pair: &mut Pair, total: usize, limit: u64) -> u64 {
    let listening = listener(pair, 1);
    let (client, server) = connected(pair, &listening, 80);
    let chunk: Vec<u8> = (0..total).map(byte).collect();
    let (start, mut sent, mut received) = (pair.net.now, 0, 0);
    pair.run(limit, |pair| {
        sent += pair.a.send(&client, &chunk[sent..]).expect("an open connection");
        while let Ok(Some(taken)) = pair.b.take(&server, |bytes| {
            assert_eq!(bytes, &chunk[received..received + bytes.len()], "the stream came as it was sent");
            bytes.len()
        }) && taken > 0
        {
            received += taken;
        }
        received == total
    });
    let took = pair.net.now - start;
    pair.a.close(client);
    pair.b.close(server);
    pair.b.close_listening(listening);
    took
}

#[test]
fn a_stream_arrives_as_it_was_sent_at_every_mtu() {
    for mtu in [576, 1500, 9000, 65_535] {
        transfer(&mut Pair::new(mtu, 1), 3_000_000, 60 * SECOND);
    }
}

/// As in smoltcp's own simulation: what a stream carries over 2 ms when one in so many datagrams is lost.
#[test]
fn throughput_falls_with_loss_and_never_to_nothing() {
    let median = |loss: f64| {
        let mut rates: Vec<f64> = (1..=5)
            .map(|seed| {
                let mut pair = Pair::new(1500, seed);
                (pair.net.loss, pair.net.latency) = (loss, MILLISECOND);
                let total = 4_000_000;
                total as f64 * 8e3 / transfer(&mut pair, total, 4000 * SECOND) as f64
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[2]
    };
    // Mbit/s at least; the seeds give 209, 70, 6 and 0.7.
    let table = [(0.0, 100.0), (0.001, 30.0), (0.01, 3.0), (0.05, 0.3)];
    let mut above = f64::INFINITY;
    for (loss, least) in table {
        let rate = median(loss);
        assert!(rate > least && rate < above, "{rate:.2} Mbit/s at a loss of {loss}");
        above = rate;
    }
}

#[test]
fn a_receiver_without_room_costs_no_segment() {
    let mut pair = Pair::new(1500, 1);
    // A sixteenth of a window: TCP offers far more than the buffer holds.
    pair.net.room = 32 * 1024;
    let total = 3_000_000;
    let took = transfer(&mut pair, total, 10 * SECOND);
    assert!(pair.net.refused > 100, "the buffer was never full");
    // Without a loss nothing is sent twice: as many segments as it takes, and acknowledgements.
    assert!(pair.net.carried < 2 * (total as u64 / 1460) + 100, "{} datagrams", pair.net.carried);
    // Nor did anybody wait for a retransmission timer.
    assert!(took < 100 * MILLISECOND, "{} ms", took / MILLISECOND);
}

#[test]
fn a_datagram_that_fits_does_not_wait_behind_segments_that_do_not() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 4);
    let (client, server) = connected(&mut pair, &listening, 80);
    let udp = pair.a.open_udp(any(0), &UdpOptions::default()).expect("a free port");
    let other = pair.b.open_udp(any(9), &UdpOptions::default()).expect("a free port");
    // No full segment fits.
    pair.net.room = 1000;
    pair.a.send(&client, &[0; 10_000]).expect("an open connection");
    pair.turn();
    assert!(pair.net.refused > 0);
    pair.a.send_to(&udp, b"small", end(B, 9)).expect("room");
    pair.run(SECOND, |pair| pair.b.udp_ready(&other).0);
    pair.net.room = usize::MAX;
    let mut received = 0;
    pair.run(SECOND, |pair| {
        received += pair.b.take(&server, <[u8]>::len).ok().flatten().unwrap_or(0);
        received == 10_000
    });
    pair.a.abort(client);
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let mut pair = Pair::new(1500, 1);
    let client = pair.a.connect(end(B, 81), any(0), &TcpOptions::default()).expect("room for a connection");
    pair.run(SECOND, |pair| pair.a.state(&client) != TcpState::Connecting);
    assert_eq!(pair.a.state(&client), TcpState::Ended(Cause::Refused));
}

#[test]
fn an_address_that_nobody_has_is_unreachable_at_once() {
    for (address, cause) in [([10, 0, 0, 99], Cause::Unreachable), ([10, 9, 9, 9], Cause::NoRoute)] {
        let mut pair = Pair::new(1500, 1);
        let client = pair.a.connect(end(address, 80), any(0), &TcpOptions::default()).expect("room for a connection");
        pair.turn();
        assert_eq!(pair.a.state(&client), TcpState::Ended(cause));
    }
}

#[test]
fn a_full_backlog_says_nothing_and_takes_the_next_when_one_is_accepted() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 2);
    let connect = |pair: &mut Pair| pair.a.connect(end(B, 80), any(0), &TcpOptions::default()).expect("room");
    let clients: Vec<Tcp> = (0..4).map(|_| connect(&mut pair)).collect();
    pair.pass(50 * MILLISECOND);
    let open = |pair: &Pair| clients.iter().filter(|client| pair.a.state(client) == TcpState::Open).count();
    // One more than the backlog, as Linux does; the fourth is neither open nor refused.
    assert_eq!(open(&pair), 3);
    assert_eq!(pair.a.state(&clients[3]), TcpState::Connecting);
    let accepted = pair.b.accept(&listening).expect("the oldest");
    pair.run(5 * SECOND, |pair| open(pair) == 4);
    let _ = pair.b.ends(&accepted);
}

#[test]
fn handshakes_that_nobody_finishes_make_room() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 0);
    let silent = pair.a.connect(end(B, 80), any(0), &TcpOptions::default()).expect("room");
    // The answer to the SYN never comes back to a.
    pair.run(SECOND, |pair| !pair.net.sides[0].arriving.is_empty());
    pair.net.sides[0].arriving.clear();
    pair.a.abort(silent);
    pair.net.sides[1].arriving.clear();
    pair.net.now += 2 * SECOND;
    pair.net.sides[0].arriving.clear();
    let (client, server) = connected(&mut pair, &listening, 80);
    pair.a.close(client);
    pair.b.close(server);
}

#[test]
fn what_was_sent_before_a_close_is_delivered_and_all_memory_goes() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 1);
    for _ in 0..50 {
        let (client, server) = connected(&mut pair, &listening, 80);
        assert_eq!(pair.a.send(&client, &[7; 200_000]), Ok(200_000));
        pair.a.close(client);
        let mut received = 0;
        pair.run(5 * SECOND, |pair| {
            loop {
                match pair.b.take(&server, <[u8]>::len) {
                    Ok(Some(0)) => return true,
                    Ok(Some(taken)) => received += taken,
                    Ok(None) => return false,
                    Err(cause) => panic!("the stream ended by {cause:?} after {received} bytes"),
                }
            }
        });
        assert_eq!(received, 200_000);
        pair.b.close(server);
    }
    pair.pass(5 * SECOND);
    assert_eq!((pair.a.connections(), pair.b.connections()), (0, 0));
}

#[test]
fn a_close_that_the_peer_never_answers_ends() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 1);
    let (client, _server) = connected(&mut pair, &listening, 80);
    pair.a.close(client);
    // b is there, and never closes its side.
    pair.run(200 * SECOND, |pair| pair.a.connections() == 0);
}

#[test]
fn a_connection_that_is_idle_for_an_hour_still_carries() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 1);
    let (client, server) = connected(&mut pair, &listening, 80);
    pair.pass(3600 * SECOND);
    assert_eq!(pair.a.send(&client, b"still here"), Ok(10));
    pair.run(SECOND, |pair| pair.b.take(&server, <[u8]>::len) == Ok(Some(10)));
    // Also when the last thing said is the end.
    pair.pass(3600 * SECOND);
    pair.a.finish(&client);
    pair.run(SECOND, |pair| pair.b.take(&server, <[u8]>::len) == Ok(Some(0)));
}

#[test]
fn keep_alive_finds_out_that_the_peer_is_gone_and_only_then() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 1);
    let (client, _server) = connected(&mut pair, &listening, 80);
    pair.a.set_keepalive(&client, Some(SECOND));
    pair.pass(60 * SECOND);
    assert_eq!(pair.a.state(&client), TcpState::Open);
    // From now on b hears nothing.
    pair.net.loss = 1.0;
    pair.run(60 * SECOND, |pair| pair.a.state(&client) != TcpState::Open);
    assert_eq!(pair.a.state(&client), TcpState::Ended(Cause::TimedOut));
}

#[test]
fn a_reset_is_told_apart_from_an_end() {
    let mut pair = Pair::new(1500, 1);
    let listening = listener(&mut pair, 1);
    let (client, server) = connected(&mut pair, &listening, 80);
    pair.b.abort(server);
    pair.run(SECOND, |pair| pair.a.state(&client) != TcpState::Open);
    assert_eq!(pair.a.take(&client, <[u8]>::len), Err(Cause::Reset));
    assert_eq!(pair.a.send(&client, b"x"), Err(Cause::Reset));
}

#[test]
fn small_writes_do_not_wait_where_nobody_wants_them_to() {
    for (nodelay, quick) in [(true, true), (false, false)] {
        let mut pair = Pair::new(1500, 1);
        let listening = listener(&mut pair, 1);
        let options = TcpOptions { nodelay, ..TcpOptions::default() };
        let client = pair.a.connect(end(B, 80), any(0), &options).expect("room");
        pair.run(SECOND, |pair| pair.a.state(&client) == TcpState::Open && pair.b.can_accept(&listening));
        let server = pair.b.accept(&listening).expect("a connection");
        let start = pair.net.now;
        let mut received = 0;
        for _ in 0..2 {
            assert_eq!(pair.a.send(&client, b"half"), Ok(4));
            pair.turn();
        }
        pair.run(SECOND, |pair| {
            received += pair.b.take(&server, <[u8]>::len).ok().flatten().unwrap_or(0);
            received == 8
        });
        // With Nagle's rule the second half waits for the acknowledgement of the first, which b holds back for 2 ms.
        assert_eq!(pair.net.now - start < 100 * MICROSECOND, quick, "{} us", (pair.net.now - start) / MICROSECOND);
    }
}

#[test]
fn a_taken_port_is_said_to_be() {
    let mut pair = Pair::new(1500, 1);
    let options = TcpOptions::default();
    let one = pair.b.listen(any(80), 1, &options).expect("a free port");
    let own = vnet_drivers::stack::Local { address: Some(B.into()), port: 80 };
    assert_eq!(pair.b.listen(own, 1, &options), Err(OpenError::Taken(80)));
    pair.b.close_listening(one);
    let _ = pair.b.listen(own, 1, &options).expect("free again");
    let foreign = vnet_drivers::stack::Local { address: Some(A.into()), port: 81 };
    assert_eq!(pair.b.listen(foreign, 1, &options), Err(OpenError::NotOurs(A.into())));
    let _ = pair.b.open_udp(any(80), &UdpOptions::default()).expect("UDP ports are others");
    assert_eq!(pair.b.open_udp(any(80), &UdpOptions::default()), Err(OpenError::Taken(80)));
}

#[test]
fn sockets_come_to_an_end_before_memory_does() {
    let mut pair = Pair::new(1500, 1);
    let small = UdpOptions { receive_buffer: 1, send_buffer: 1, datagrams: 1 };
    for _ in 0..SOCKETS {
        let _ = pair.a.open_udp(any(0), &small).expect("room");
    }
    assert_eq!(pair.a.open_udp(any(0), &small), Err(OpenError::TooMany));
    assert_eq!(pair.a.connect(end(B, 80), any(0), &TcpOptions::default()), Err(OpenError::TooMany));
}

/// Both directions at once, with readers that take what they like, through input buffers that hold two datagrams.
#[test]
fn both_directions_arrive_whole_however_slowly_they_are_read() {
    for seed in 0..200 {
        let mut random = hostile::Random(seed);
        let mtu = [1500, 9000, 65_535][random.below(3) as usize];
        let mut pair = Pair::new(mtu, seed);
        pair.net.room = [130_000, 1 << 20][random.below(2) as usize];
        let listening = listener(&mut pair, 1);
        let (client, server) = connected(&mut pair, &listening, 80);
        let total = 1_000_000 + random.below(2_000_000) as usize;
        let chunk: Vec<u8> = (0..total).map(byte).collect();
        let (mut sent, mut received) = ([0; 2], [0; 2]);
        pair.run(60 * SECOND, |pair| {
            for side in 0..2 {
                let (stack, tcp) = if side == 0 { (&mut pair.a, &client) } else { (&mut pair.b, &server) };
                if sent[side] < total {
                    let more = (random.below(300_000) as usize).min(total - sent[side]);
                    sent[side] += stack.send(tcp, &chunk[sent[side]..sent[side] + more]).expect("an open connection");
                    if sent[side] == total {
                        stack.finish(tcp);
                    }
                }
                let most = random.below(100_000) as usize * random.below(2) as usize;
                let at = received[side];
                let taken = stack.take(tcp, |bytes| {
                    let length = bytes.len().min(most);
                    assert_eq!(&bytes[..length], &chunk[at..at + length]);
                    length
                });
                received[side] += taken.expect("no reset").unwrap_or(0);
            }
            if pair.net.now > 30 * SECOND {
                let s = pair.a.tcp(&client);
                println!(
                    "seed {seed} mtu {mtu} {sent:?} {received:?} of {total}: a {:?} {} {}",
                    s.state(),
                    s.send_queue(),
                    s.recv_queue()
                );
                let s = pair.b.tcp(&server);
                println!("b {:?} {} {}", s.state(), s.send_queue(), s.recv_queue());
                panic!();
            }
            received == [total; 2]
        });
    }
}
