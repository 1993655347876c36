//! What the driver has most to do with, once more on epoll: large bodies both ways, ends and resets of either side, connections
//! that die while they are kept. The rest of a test is the same above either driver; `make test ENGINE=epoll` runs all of
//! them on it, and the simulator (`src/io/simulation`) has the manners of both.

use super::lab::proxy::on_epoll;
use super::{bulk, http_pool, opaque};

macro_rules! on_epoll {
    ($($room:ident::$test:ident,)*) => {
        $(#[test]
        fn $test() {
            on_epoll($room::$test);
        })*
    };
}

on_epoll! {
    bulk::bodies_of_every_size_go_up,
    opaque::the_application_may_finish_first,
    opaque::the_server_may_finish_first,
    opaque::a_reset_is_passed_on_as_a_reset,
    opaque::both_directions_at_once,
    opaque::around_an_urgent_byte_the_stream_is_whole,
    opaque::a_declared_tcp_port_needs_no_wait,
    http_pool::an_application_that_leaves_gives_its_place_up,
    http_pool::what_cannot_be_sent_twice_meets_no_old_connection,
    http_pool::what_an_idle_connection_says_answers_nobody,
    http_pool::servers_that_close_idle_connections_are_not_noticed,
}

/// Eight times what the process may have.
const MUCH: u64 = 256 << 20;

#[test]
fn much_down() {
    on_epoll(|| bulk::much_down(MUCH));
}

#[test]
fn much_up() {
    on_epoll(|| bulk::much_up(MUCH));
}

#[test]
fn every_byte_of_twenty_thousand_responses() {
    on_epoll(|| bulk::every_byte_of_responses(100));
}
