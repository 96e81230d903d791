//! Writes what is forwarded as pcapng, every NIC an interface.
//!
//! While a capture runs, senders put a copy of each datagram with a [`Note`] into the input buffer of slot 0. This
//! thread reads them and writes packet blocks: one on the sender's interface, outbound, with the reason as a comment if
//! the datagram was dropped; one on the receiver's, inbound. A capture never makes a sender wait: what finds no room in
//! its buffer is missed and counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use vnet_base::forward::Note;
use vnet_base::lan::BASE;
use vnet_base::sync::{AtomicBool, Ordering};
use vnet_base::tables::SlotId;
use vnet_base::{Lan, Receiver, Verdict};

/// epb_flags of an inbound and an outbound packet (pcapng, section 4.3.1).
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// How long the thread sleeps when nothing comes, before it looks whether it is to end.
const NAP: Duration = Duration::from_millis(20);

/// What a capture did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureResult {
    /// Datagrams that senders forwarded and that are in the file, each in one or more packet blocks.
    pub datagrams: u64,
    /// Datagrams and copies that found no room in the capture's buffer.
    pub missed: u64,
    /// Why the file is not whole.
    pub error: Option<String>,
}

/// A running capture. Dropping it ends it.
pub struct Capture {
    lan: Arc<Lan>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<CaptureResult>>>,
    result: Mutex<Option<CaptureResult>>,
}

struct Writer {
    lan: Arc<Lan>,
    output: PcapNgWriter<BufWriter<File>>,
    /// By slot and generation.
    interfaces: BTreeMap<(u16, u32), u32>,
    /// By name and addresses: a place that is claimed again is the same interface.
    described: BTreeMap<(String, Vec<IpAddr>), u32>,
    result: CaptureResult,
}

impl Capture {
    /// Starts to capture into `file`. One capture at a time; the caller sees to that.
    ///
    /// # Errors
    ///
    /// Those of writing the file and of starting the thread.
    pub fn start(lan: Arc<Lan>, file: File) -> io::Result<Self> {
        let output = PcapNgWriter::new(BufWriter::with_capacity(1 << 18, file)).map_err(io::Error::other)?;
        let mut receiver = Receiver::new(Arc::clone(lan.segment()), SlotId(0), BASE).ok_or(io::ErrorKind::NotFound)?;
        let missed_before = missed(&lan);
        let mut writer = Writer {
            lan: Arc::clone(&lan),
            output,
            interfaces: BTreeMap::new(),
            described: BTreeMap::new(),
            result: CaptureResult::default(),
        };
        writer.output.get_mut().flush()?;
        lan.set_capturing(true);
        writer.add_interfaces();
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let work = move || {
            loop {
                let last = ending.load(Ordering::Acquire);
                while let Ok(Some(record)) = receiver.peek() {
                    writer.packet(receiver.bytes(&record));
                    receiver.done(&record);
                }
                if last {
                    break;
                }
                writer.flush();
                let _ = receiver.wait(Some(NAP));
            }
            receiver.publish();
            writer.add_interfaces();
            writer.flush();
            writer.result.missed = missed(&writer.lan) - missed_before;
            writer.result
        };
        let thread = std::thread::Builder::new().name("vnet-capture".into()).spawn(work)?;
        Ok(Self { lan, stop, thread: Mutex::new(Some(thread)), result: Mutex::new(None) })
    }

    /// Forgets the capture in a forked child: the thread is not there, and the capture is the parent's.
    pub fn abandon(&self) {
        // Whoever held the lock at the fork is not there to give it back.
        if let Ok(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
    }

    /// Ends the capture, once all that was forwarded before is in the file.
    pub fn stop(&self) -> CaptureResult {
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.lan.set_capturing(false);
            // Senders that saw the flag before may still be writing their notes.
            std::thread::sleep(Duration::from_millis(2));
            self.stop.store(true, Ordering::Release);
            vnet_base::sync::futex_wake(&self.lan.segment().control(SlotId(0)).bell.idle, 1);
            let result = thread.join().unwrap_or_else(|_| CaptureResult {
                error: Some("the capture's thread ended early".into()),
                ..CaptureResult::default()
            });
            *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        self.result.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}

fn missed(lan: &Lan) -> u64 {
    lan.segment().control(SlotId(0)).senders.rx_dropped.load(Ordering::Relaxed)
}

impl Writer {
    fn keep<T>(&mut self, result: Result<T, impl std::fmt::Display>) {
        if let Err(error) = result {
            self.result.error.get_or_insert_with(|| error.to_string());
        }
    }

    fn flush(&mut self) {
        let flushed = self.output.get_mut().flush();
        self.keep(flushed);
    }

    /// An interface block for each NIC that has none yet, in the order of their slots.
    fn add_interfaces(&mut self) {
        for ((slot, generation), described) in self.lan.holders() {
            self.describe(slot, generation, described);
        }
    }

    /// The interface of the NIC that had the slot in this generation.
    fn interface(&mut self, slot: SlotId, generation: u32) -> u32 {
        if let Some(id) = self.interfaces.get(&(slot.0, generation)) {
            return *id;
        }
        let described = self.lan.holder(slot, generation);
        let described = described.unwrap_or_else(|| (format!("nic{}", slot.0), Vec::new()));
        self.describe(slot.0, generation, described)
    }

    /// Gives a NIC its interface block, unless it has one.
    fn describe(&mut self, slot: u16, generation: u32, described: (String, Vec<IpAddr>)) -> u32 {
        let next = self.described.len() as u32;
        let id = *self.described.entry(described.clone()).or_insert(next);
        self.interfaces.insert((slot, generation), id);
        if id != next {
            return id;
        }
        let (name, addresses) = described;
        let description = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let mut block = InterfaceDescriptionBlock::new(DataLink::RAW, 0);
        block.options.push(InterfaceDescriptionOption::IfName(Cow::Owned(name)));
        if !description.is_empty() {
            block.options.push(InterfaceDescriptionOption::IfDescription(Cow::Owned(description)));
        }
        // 9: times are in units of 10⁻⁹ seconds (pcapng, section 4.2).
        block.options.push(InterfaceDescriptionOption::IfTsResol(9));
        let written = self.output.write_pcapng_block(block);
        self.keep(written);
        id
    }

    fn packet(&mut self, record: &[u8]) {
        let Some((note, datagram)) = Note::split(record) else { return };
        let verdict = Verdict::ALL.get(usize::from(note.verdict)).copied();
        let delivered = verdict == Some(Verdict::Delivered);
        let reason = verdict.map_or("unknown", Verdict::name);
        if !note.copy {
            self.result.datagrams += 1;
            let comment = (!delivered).then(|| format!("dropped: {reason}"));
            self.block((note.source, note.generations.0), note.time, datagram, OUTBOUND, comment);
        }
        if note.receiver.0 != 0 {
            let comment = (!delivered).then(|| format!("dropped: {reason}"));
            self.block((note.receiver, note.generations.1), note.time, datagram, INBOUND, comment);
        }
    }

    fn block(&mut self, nic: (SlotId, u32), time: u64, datagram: &[u8], flags: u32, comment: Option<String>) {
        if self.result.error.is_some() {
            return;
        }
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        options.extend(comment.map(|comment| EnhancedPacketOption::Comment(Cow::Owned(comment))));
        let block = EnhancedPacketBlock {
            interface_id: self.interface(nic.0, nic.1),
            timestamp: Duration::from_nanos(time),
            original_len: datagram.len() as u32,
            data: Cow::Borrowed(datagram),
            options,
        };
        let written = self.output.write_pcapng_block(block);
        self.keep(written);
    }
}
