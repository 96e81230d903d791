//! Rings and bells of pipes under loom: every order of the atomic operations that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p vnet-bus --release --test loom_pipe`. A lost wake-up is a model in which
//! everybody sleeps, and loom says so; a byte that is read before it is there, or written over, is a race on its cell.
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use vnet_base::area::Area;
use vnet_bus::pipe::bell::{Armed, Watch, arm_room};
use vnet_bus::pipe::layout::Way;
use vnet_bus::pipe::ring::{Consumer, Nonsense, Producer, end_reading, end_writing};

/// One descriptor as the kernel has it: sending, taking and falling asleep are one step each.
struct Descriptor {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tokens: u32,
    ballast: bool,
    large: bool,
}

impl State {
    fn writable(&self) -> bool {
        !self.ballast || self.large
    }
}

impl Descriptor {
    fn new() -> Arc<Self> {
        let state = State { tokens: 1, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn sleep_until(&self, ready: impl Fn(&State) -> bool) {
        let mut state = self.state.lock().unwrap();
        while !ready(&state) {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn take(&self, count: u32) -> Option<u32> {
        let mut state = self.state.lock().unwrap();
        let taken = state.tokens.min(count);
        state.tokens -= taken;
        Some(taken)
    }
}

struct Writer {
    way: &'static Way,
    producer: Producer,
    /// The reader's descriptor, and the writer's own.
    data: Arc<Descriptor>,
    room: Arc<Descriptor>,
}

struct Reader {
    way: &'static Way,
    consumer: Consumer,
    watch: Watch,
    data: Arc<Descriptor>,
    room: Arc<Descriptor>,
}

/// A way whose ring has so many words of 8 bytes.
fn pair(words: u64) -> (Writer, Reader) {
    let way: &'static Way = Box::leak(Box::default());
    let area = Area::model(words * 8);
    let (data, room) = (Descriptor::new(), Descriptor::new());
    let writer =
        Writer { way, producer: Producer::new(way, area.clone()), data: Arc::clone(&data), room: Arc::clone(&room) };
    (writer, Reader { way, consumer: Consumer::new(way, area), watch: Watch::new(), data, room })
}

impl Writer {
    fn try_write(&mut self, word: u64) -> bool {
        if self.producer.room(8).unwrap() < 8 {
            return false;
        }
        self.producer.put(0, &word.to_ne_bytes());
        self.producer.finish(8);
        if self.producer.rings() {
            self.data.change(|state| state.tokens += 1);
        }
        true
    }

    fn hold(&mut self) -> bool {
        let (room, producer) = (&self.room, &mut self.producer);
        let position = producer.head_for(8);
        let hold = || {
            room.change(|state| {
                state.large = false;
                state.ballast = true;
            });
        };
        let look = || Ok::<_, Nonsense>(producer.last_look()? >= 8 || producer.reader_ended());
        arm_room(&self.way.room, position, hold, look, || room.change(|state| state.large = true)).unwrap()
    }

    fn write(&mut self, word: u64) {
        while !self.try_write(word) {
            if !self.hold() {
                self.room.sleep_until(State::writable);
            }
        }
    }

    fn end(&self) {
        if end_writing(self.way) {
            self.data.change(|state| state.tokens += 1);
        }
    }
}

impl Reader {
    fn try_read(&mut self) -> Option<u64> {
        if self.consumer.available(8).unwrap() < 8 {
            return None;
        }
        let mut word = [0; 8];
        self.consumer.get(0, &mut word);
        self.consumer.finish(8);
        if self.consumer.rings() {
            self.room.change(|state| state.ballast = false);
        }
        Some(u64::from_ne_bytes(word))
    }

    fn arm(&mut self) -> Armed {
        let (consumer, data) = (&mut self.consumer, &self.data);
        let position = consumer.tail_for(1);
        let look = || Ok::<_, Nonsense>(consumer.last_look()? > 0 || consumer.writer_ended());
        self.watch.arm(&self.way.data, position, look, |count| data.take(count)).unwrap()
    }

    /// `None` at the end.
    fn read(&mut self) -> Option<u64> {
        loop {
            if let Some(word) = self.try_read() {
                return Some(word);
            }
            if self.consumer.writer_ended() {
                return self.try_read();
            }
            if self.arm() != Armed::Found {
                self.data.sleep_until(|state| state.tokens > 0);
            }
        }
    }

    fn readable(&self) -> bool {
        self.data.state.lock().unwrap().tokens > 0
    }
}

#[test]
fn bytes_are_seen_when_they_are_there_and_in_their_order() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(2);
        let thread = thread::spawn(move || {
            assert!(writer.try_write(11));
            assert!(writer.try_write(12));
        });
        for expected in [11, 12] {
            match reader.try_read() {
                Some(word) => assert_eq!(word, expected),
                None => break,
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_place_is_written_again_only_after_it_was_read() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(2);
        assert!(writer.try_write(1) && writer.try_write(2));
        let thread = thread::spawn(move || writer.try_write(3));
        assert_eq!(reader.try_read(), Some(1));
        let third = thread.join().unwrap();
        assert_eq!(reader.try_read(), Some(2));
        assert_eq!(reader.try_read(), third.then_some(3));
    });
}

#[test]
fn a_reader_that_sleeps_is_woken_by_data_and_by_the_end() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(2);
        let thread = thread::spawn(move || {
            writer.write(7);
            writer.end();
        });
        assert_eq!(reader.read(), Some(7));
        assert_eq!(reader.read(), None);
        thread.join().unwrap();
    });
}

#[test]
fn a_writer_that_sleeps_is_woken_by_room() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(2);
        assert!(writer.try_write(1) && writer.try_write(2));
        let thread = thread::spawn(move || writer.write(3));
        assert_eq!(reader.try_read(), Some(1));
        assert_eq!(reader.try_read(), Some(2));
        thread.join().unwrap();
        assert_eq!(reader.try_read(), Some(3));
    });
}

#[test]
fn a_writer_that_sleeps_is_woken_by_a_reader_that_ends() {
    loom::model(|| {
        let (mut writer, reader) = pair(2);
        assert!(writer.try_write(1) && writer.try_write(2));
        let thread = thread::spawn(move || {
            while !writer.producer.reader_ended() {
                if !writer.hold() {
                    writer.room.sleep_until(State::writable);
                }
            }
        });
        if end_reading(reader.way) {
            reader.room.change(|state| state.ballast = false);
        }
        thread.join().unwrap();
    });
}

/// What a program polls: once the last token was taken, data makes the descriptor readable whatever came between.
#[test]
fn a_descriptor_is_readable_whenever_there_is_data() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(4);
        let thread = thread::spawn(move || {
            assert!(writer.try_write(1));
            assert!(writer.try_write(2));
        });
        // As a program that reads without waiting: what it leaves unread must show.
        let first = reader.try_read();
        let armed = if first.is_none() { Some(reader.arm()) } else { None };
        thread.join().unwrap();
        if reader.consumer.available(8).unwrap() > 0 {
            assert!(reader.readable(), "data, and nothing shows it: {first:?}, {armed:?}");
        }
        // And once all was read, that shows, too, whatever signals were late.
        while reader.try_read().is_some() {}
        assert_ne!(reader.arm(), Armed::Found);
        assert!(!reader.readable(), "nothing, and it seems to be something");
    });
}

#[test]
fn a_descriptor_is_writable_whenever_there_is_room() {
    loom::model(|| {
        let (mut writer, mut reader) = pair(2);
        assert!(writer.try_write(1) && writer.try_write(2));
        let thread = thread::spawn(move || {
            reader.try_read();
            reader
        });
        writer.hold();
        let _reader = thread.join().unwrap();
        // One word was read: there is room, and whoever polls learns of it.
        assert!(writer.room.state.lock().unwrap().writable());
    });
}

#[test]
fn a_stream_through_a_ring_of_two_words_sleeps_and_wakes_at_both_ends() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (mut writer, mut reader) = pair(2);
        let thread = thread::spawn(move || {
            for word in 1..=3 {
                writer.write(word);
            }
            writer.end();
        });
        for word in 1..=3 {
            assert_eq!(reader.read(), Some(word));
        }
        assert_eq!(reader.read(), None);
        thread.join().unwrap();
    });
}
