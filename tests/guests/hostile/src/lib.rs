//! A provider that does what it shouldn't, by the model's name. For the host's tests.
#![expect(clippy::panic, clippy::unwrap_used, reason = "misbehaving is its purpose")]

use std::hint::black_box;

use brokle_plugin::provider::{
    Auth, Body, Call, Decoder, Ending, Frame, Output, Preparation, Provider, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

/// How often the host is asked in a call of the model `ask`.
const ASKED: u32 = 10_000;

struct Hostile;
struct Echo(Call);

impl Provider for Hostile {
    type Decoder = Echo;

    fn describe() -> Description {
        Description::provider([("chat.completions", &["stream"][..])])
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        match call.model.as_str() {
            "panic" => panic!("as asked"),
            "exit" => std::process::exit(3),
            "spin" => spin(),
            "long" => {
                (0..50_000_000u64).for_each(|n| {
                    black_box(n);
                });
                Ok(UpstreamRequest::post("/long").into())
            }
            "memory" => Ok(Preparation::Answer(vec![Output::Bytes(hoard())])),
            "recurse" => Ok(UpstreamRequest::post(recurse(0).to_string()).into()),
            "flood" => {
                for _ in 0..1_000 {
                    brokle_plugin::host::log(brokle_plugin::host::Level::Info, "again and again", &[]);
                }
                Ok(UpstreamRequest::post("/flooded").into())
            }
            "huge-answer" => {
                let piece = vec![b'x'; 1 << 20];
                Ok(Preparation::Answer((0..32).map(|_| Output::Bytes(piece.clone())).collect()))
            }
            "huge-claim" => Ok(Preparation::Answer(vec![Output::Bytes(claim())])),
            // Nothing wrong with it: for the bench.
            "ask" => {
                (0..ASKED).for_each(|_| {
                    black_box(body.size());
                });
                Ok(UpstreamRequest::post("/asked").into())
            }
            "environment" => {
                let seen = format!("{:?} {:?}", std::env::vars().count(), std::env::args().count());
                Ok(UpstreamRequest::post(seen).into())
            }
            "stray-header" => Ok(UpstreamRequest::post("/x").header("authorization", "Bearer mine").into()),
            "stray-path" => Ok(UpstreamRequest::post("//elsewhere.example/x").auth(Auth::Bearer).into()),
            "read" => Ok(UpstreamRequest::post(body.field::<String>("/secret").unwrap_or_default()).into()),
            _ => Ok(UpstreamRequest::post("/chat/completions").decoded("sse").into()),
        }
    }
}

impl Decoder for Echo {
    fn new(call: Call, _: ResponseHead, _: Vec<u8>) -> Self {
        Self(call)
    }
    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        match self.0.model.as_str() {
            "panic-in-stream" => panic!("mid-stream, as asked"),
            "spin-in-stream" => spin(),
            _ => Ok(frames.into_iter().map(|frame| Output::Chunk(frame.data)).collect()),
        }
    }
    fn finish(&mut self) -> Result<Ending, Problem> {
        Ok(Ending { outputs: Vec::new(), next: None })
    }
}

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

fn hoard() -> Vec<u8> {
    let mut pieces = Vec::new();
    for n in 0..1_000u32 {
        pieces.push(black_box(vec![n.to_le_bytes()[0]; 1 << 20]));
    }
    pieces.pop().unwrap()
}

/// A list of a gigabyte, as its length says. Its memory isn't there.
fn claim() -> Vec<u8> {
    const LENGTH: usize = 1 << 30;
    let place = Box::leak(vec![b'x'; 16].into_boxed_slice()).as_mut_ptr();
    #[expect(unsafe_code, reason = "safe code tells no such lies")]
    // SAFETY: nobody in here reads it: it is given to the host, whose business it is not to believe it.
    unsafe {
        Vec::from_raw_parts(place, LENGTH, LENGTH)
    }
}

#[expect(unconditional_recursion, reason = "a stack overflow is wanted")]
fn recurse(n: u64) -> u64 {
    let room = black_box([n; 64]);
    black_box(recurse(n + room.len() as u64)) + 1
}

brokle_plugin::export!(provider: Hostile);
