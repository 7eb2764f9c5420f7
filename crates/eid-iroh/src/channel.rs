//! A connection of iroh as a channel of streams.

use std::time::Duration;

use bytes::Bytes;
use eid_transport::BoxFuture;
use eid_transport::streams::{Channel, GIVEN_UP, Lost, Reason, Sink, Source};
use iroh::endpoint::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};

use crate::error::lost;
use crate::limits::WINDOW_BYTES;

/// A connection whose handshake is complete.
#[derive(Debug, Clone)]
pub(crate) struct IrohChannel(pub(crate) Connection);

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct IrohSink(SendStream);

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct IrohSource(RecvStream);

impl Channel for IrohChannel {
    type Sink = IrohSink;
    type Source = IrohSource;

    async fn open(&self) -> Result<(IrohSink, IrohSource), Lost> {
        let (sink, source) = self.0.open_bi().await.map_err(lost)?;
        Ok((IrohSink(sink), IrohSource(source)))
    }

    async fn accept(&self) -> Option<(IrohSink, IrohSource)> {
        let (sink, source) = self.0.accept_bi().await.ok()?;
        Some((IrohSink(sink), IrohSource(source)))
    }

    fn trust(&self) {
        self.0.set_receive_window(VarInt::from_u32(WINDOW_BYTES));
    }

    fn lost(&self) -> Option<Lost> {
        self.0.close_reason().map(lost)
    }

    fn close(&self, why: Reason) {
        self.0.close(VarInt::from_u32(why.code()), b"");
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        // A real network runs on the clock of the runtime; other channels bring their own.
        Box::pin(tokio::time::sleep(time))
    }
}

impl Sink for IrohSink {
    async fn write(&mut self, bytes: &mut [Bytes]) -> Result<(), Lost> {
        self.0.write_all_chunks(bytes).await.map_err(|error| match error {
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => Lost::Closed,
            WriteError::ConnectionLost(error) => lost(error),
        })
    }

    fn finish(&mut self) {
        // A stream that has ended already has ended.
        drop(self.0.finish());
    }

    fn reset(&mut self) {
        drop(self.0.reset(VarInt::from_u32(GIVEN_UP)));
    }

    fn delivered(&self) -> BoxFuture<'static, ()> {
        let stopped = self.0.stopped();
        Box::pin(async { drop(stopped.await) })
    }
}

impl Source for IrohSource {
    async fn read(&mut self, most: usize) -> Result<Option<Bytes>, Lost> {
        match self.0.read_chunk(most).await {
            Ok(chunk) => Ok(chunk),
            Err(ReadError::Reset(_)) => Err(Lost::given_up()),
            Err(ReadError::ConnectionLost(error)) => Err(lost(error)),
            Err(ReadError::ClosedStream | ReadError::ZeroRttRejected) => Err(Lost::Closed),
        }
    }

    fn stop(&mut self) {
        drop(self.0.stop(VarInt::from_u32(GIVEN_UP)));
    }
}
