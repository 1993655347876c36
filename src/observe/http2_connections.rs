//! The HTTP/2 connections of a worker, of applications and to servers, and the streams on each.
//!
//! A stream costs a few plain stores at its beginning and its end; only a connection's beginning and end take the lock that
//! readers share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::counter::Counter;

/// Whose connection it is, in Envoy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Http2Side {
    /// An application's.
    Downstream,
    /// To a server.
    Upstream,
}

impl Http2Side {
    /// By their words.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Downstream, "downstream"), (Self::Upstream, "upstream")];
}

/// One worker's connections, as readers find them.
#[derive(Debug, Default)]
pub struct Http2Connections {
    rows: Mutex<HashMap<u64, Arc<Row>, RandomState>>,
    listed: Counter,
    sides: [SideCounts; 2],
}

/// All of one side.
#[derive(Debug, Default)]
struct SideCounts {
    connections: Counter,
    active_streams: Counter,
    total_streams: Counter,
}

/// What all connections of one side have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideTotals {
    pub connections: u64,
    pub active_streams: u64,
    /// Also of connections that have ended.
    pub total_streams: u64,
}

#[derive(Debug)]
struct Row {
    side: Http2Side,
    peer: SocketAddr,
    cluster: Option<String>,
    active: Counter,
    total: Counter,
}

/// One connection, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Http2ConnectionRow {
    pub worker: usize,
    pub side: Http2Side,
    pub protocol: String,
    pub peer: SocketAddr,
    /// Of one to a server.
    pub cluster: Option<String>,
    pub active_streams: u64,
    /// Since it was made.
    pub total_streams: u64,
}

impl Http2Connections {
    /// Lists a connection, by the thread that the counts belong to.
    #[must_use]
    pub fn list(self: &Arc<Self>, side: Http2Side, peer: SocketAddr, cluster: Option<&str>) -> Http2Listed {
        let (active, total) = (Counter::default(), Counter::default());
        let row = Arc::new(Row { side, peer, cluster: cluster.map(str::to_owned), active, total });
        self.listed.increment();
        let id = self.listed.get();
        self.rows().insert(id, Arc::clone(&row));
        self.counts(side).connections.increment();
        Http2Listed { of: Arc::clone(self), id, row }
    }

    /// The connections of `worker`, those with most streams first; `most` of them.
    #[must_use]
    pub fn shown(&self, worker: usize, most: usize) -> Vec<Http2ConnectionRow> {
        let mut rows: Vec<_> = self.rows().values().map(|row| row.shown(worker)).collect();
        rows.sort_by_key(|row| (row.side, std::cmp::Reverse((row.active_streams, row.total_streams)), row.peer));
        rows.truncate(most);
        rows
    }

    /// How many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rows().len()
    }

    /// All of `side`, of all `workers` together.
    #[must_use]
    pub fn totals<'w>(side: Http2Side, workers: impl Iterator<Item = &'w Self>) -> SideTotals {
        let mut totals = SideTotals::default();
        workers.for_each(|worker| totals.add(worker.counts(side)));
        totals
    }

    fn counts(&self, side: Http2Side) -> &SideCounts {
        &self.sides[side as usize]
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<u64, Arc<Row>, RandomState>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn shown(&self, worker: usize) -> Http2ConnectionRow {
        Http2ConnectionRow {
            worker,
            side: self.side,
            protocol: "HTTP/2".to_owned(),
            peer: self.peer,
            cluster: self.cluster.clone(),
            active_streams: self.active.get(),
            total_streams: self.total.get(),
        }
    }
}

/// A connection on the list, for as long as it lives.
#[derive(Debug)]
pub struct Http2Listed {
    of: Arc<Http2Connections>,
    id: u64,
    row: Arc<Row>,
}

impl Http2Listed {
    /// A stream has begun; its end is to be told.
    pub fn stream_begins(&self) {
        let counts = self.of.counts(self.row.side);
        [&self.row.active, &self.row.total, &counts.active_streams, &counts.total_streams]
            .into_iter()
            .for_each(Counter::increment);
    }

    pub fn stream_ends(&self) {
        self.row.active.decrement();
        self.of.counts(self.row.side).active_streams.decrement();
    }
}

impl Drop for Http2Listed {
    fn drop(&mut self) {
        self.of.rows().remove(&self.id);
        self.of.counts(self.row.side).connections.decrement();
    }
}

impl SideTotals {
    fn add(&mut self, counts: &SideCounts) {
        self.connections += counts.connections.get();
        self.active_streams += counts.active_streams.get();
        self.total_streams += counts.total_streams.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_streams_come_and_go() {
        let list = Arc::new(Http2Connections::default());
        let peer = SocketAddr::from(([192, 0, 2, 1], 443));
        let (near, far) =
            (list.list(Http2Side::Downstream, peer, None), list.list(Http2Side::Upstream, peer, Some("c")));
        near.stream_begins();
        far.stream_begins();
        far.stream_begins();
        far.stream_ends();
        let rows = list.shown(3, 10);
        let row = |side, cluster: Option<&str>, active_streams, total_streams| Http2ConnectionRow {
            worker: 3,
            side,
            protocol: "HTTP/2".to_owned(),
            peer,
            cluster: cluster.map(str::to_owned),
            active_streams,
            total_streams,
        };
        assert_eq!(rows, [row(Http2Side::Downstream, None, 1, 1), row(Http2Side::Upstream, Some("c"), 1, 2)]);
        assert_eq!((list.shown(0, 1).len(), list.count()), (1, 2));
        far.stream_ends();
        drop(far);
        let totals = |side| Http2Connections::totals(side, [&*list, &Http2Connections::default()].into_iter());
        let expected =
            |connections, active_streams, total_streams| SideTotals { connections, active_streams, total_streams };
        assert_eq!(totals(Http2Side::Downstream), expected(1, 1, 1));
        assert_eq!(totals(Http2Side::Upstream), expected(0, 0, 2));
    }
}
