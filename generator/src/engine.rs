//! The event loop: hands due requests to idle connections, and answers to the books.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use super::GeneratorError;
use super::answer::Answer;
use super::clock::{self, Timer};
use super::connection::{Connection, InFlight};
use super::failure::Failure;
use super::pace::{Due, Pace};
use super::plan::Plan;
use super::request::Ids;
use super::tally::Tally;

/// The token of the timer; connections count from 0.
const TIMER: Token = Token(usize::MAX);

/// How often the loop looks for answers that do not come.
const TICK: Duration = Duration::from_millis(100);

/// How long a connection rests after it could not be opened, nanoseconds: a closed loop against
/// a dead server would otherwise take a whole processor.
const REST: u64 = 10_000_000;

/// Bytes read at once: more than any answer of the lab, so that one read is enough.
const BUFFER: usize = 64 * 1024;

/// A run in progress.
pub(super) struct Engine<'p> {
    plan: &'p Plan,
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    /// First in, first out: every connection stays in use and none times out at the server.
    idle: VecDeque<usize>,
    /// Connections that could not be opened, and when they may try again.
    resting: VecDeque<(u64, usize)>,
    busy: usize,
    over: bool,
    pace: Pace,
    ids: Ids,
    tally: Tally,
}

impl<'p> Engine<'p> {
    /// Opens all connections; nothing is sent yet.
    pub(super) fn open(plan: &'p Plan) -> Result<Self, GeneratorError> {
        let poll = Poll::new().map_err(|error| GeneratorError::Loop("create a poll", error))?;
        let timer = Timer::new(poll.registry(), TIMER)
            .map_err(|error| GeneratorError::Loop("create a timer", error))?;
        let connections: Vec<_> = (0..plan.connections)
            .map(|index| Connection::open(plan, poll.registry(), Token(index)))
            .collect::<Result<_, _>>()
            .map_err(|error| GeneratorError::Connect(plan.target.address, error))?;
        Ok(Self {
            plan,
            poll,
            timer,
            idle: (0..connections.len()).collect(),
            connections,
            resting: VecDeque::new(),
            busy: 0,
            over: false,
            pace: Pace::new(plan.schedule, clock::now()),
            ids: Ids::new(),
            tally: Tally::new()?,
        })
    }

    /// Runs until every request of the plan has its end.
    pub(super) fn run(mut self) -> Result<Tally, GeneratorError> {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; BUFFER];
        let mut swept = clock::now();
        self.pace = Pace::new(self.plan.schedule, swept);
        loop {
            let wake = self.dispatch();
            if self.over && self.busy == 0 {
                return Ok(self.tally);
            }
            if let Some(wake) = wake {
                self.timer
                    .arm(wake)
                    .map_err(|error| GeneratorError::Loop("arm the timer", error))?;
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(GeneratorError::Loop("wait for events", error));
                }
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != TIMER) {
                self.on_event(event, &mut buffer);
                // At once and not after the batch: an answer may have freed the connection that
                // a due request waits for.
                self.dispatch();
            }
            let now = clock::now();
            if now >= swept + TICK.as_nanos() as u64 {
                swept = now;
                self.sweep(now);
            }
        }
    }

    /// Gives due requests to idle connections; tells when to look again, if no event comes first.
    fn dispatch(&mut self) -> Option<u64> {
        let mut now = clock::now();
        while let Some((_, index)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.idle.push_back(index);
        }
        let rested = self.resting.front().map(|(until, _)| *until);
        while let Some(&index) = self.idle.front() {
            match self.pace.next(now) {
                Due::Now(planned) => {
                    self.idle.pop_front();
                    self.take(index, planned, now);
                }
                Due::At(at) => return Some(rested.map_or(at, |rested| rested.min(at))),
                Due::Over => {
                    self.over = true;
                    return None;
                }
            }
            now = clock::now();
        }
        self.resting.front().map(|(until, _)| *until)
    }

    fn take(&mut self, index: usize, planned: u64, now: u64) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let request = InFlight {
            planned,
            taken: now,
            resent: false,
        };
        self.busy += 1;
        self.tally.sent(now);
        let reopened = if connection.is_closed() {
            self.tally.reconnect();
            connection.reopen(self.plan.target.address, self.poll.registry())
        } else {
            Ok(())
        };
        connection.request = Some(request);
        let sent = reopened.and_then(|()| connection.send(request, self.plan, &mut self.ids));
        if let Err(failure) = sent {
            self.fail(index, failure);
        }
    }

    fn on_event(&mut self, event: &Event, buffer: &mut [u8]) {
        let Token(index) = event.token();
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        match connection.progress(event, buffer) {
            Ok(None) => {}
            Ok(Some(answer)) => self.finish(index, answer),
            Err(failure) => self.fail(index, failure),
        }
    }

    fn finish(&mut self, index: usize, answer: Answer) {
        let now = clock::now();
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if !answer.keep_alive {
            connection.close();
        }
        // Without a request the answer is a server's farewell to an idle connection.
        let Some(request) = connection.request.take() else {
            return connection.close();
        };
        self.busy -= 1;
        self.idle.push_back(index);
        if matches!(answer.status, 200..300) {
            self.tally.success(request.planned, request.taken, now);
        } else {
            self.tally.failure(1, &Failure::Status(answer.status), now);
        }
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let mut failure = failure;
        if connection.may_resend(&failure, self.plan) {
            self.tally.reconnect();
            connection.rewind();
            if let Some(request) = &mut connection.request {
                request.resent = true;
            }
            match connection.reopen(self.plan.target.address, self.poll.registry()) {
                Ok(()) => return,
                Err(error) => failure = error,
            }
        }
        connection.close();
        if connection.request.take().is_none() {
            // The server closed an idle connection; it is still in the queue of the idle ones,
            // and its next request opens it again.
            return;
        }
        let now = clock::now();
        self.busy -= 1;
        self.tally.failure(1, &failure, now);
        if matches!(failure, Failure::Connect(_)) {
            self.resting.push_back((now + REST, index));
        } else {
            self.idle.push_back(index);
        }
    }

    /// Ends what takes too long: single answers, and the run.
    fn sweep(&mut self, now: u64) {
        let patience = self.plan.patience;
        for index in 0..self.connections.len() {
            let request = self.connections.get(index).and_then(|it| it.request);
            if request.is_some_and(|it| now.saturating_sub(it.taken) > patience.as_nanos() as u64) {
                self.fail(index, Failure::Timeout(patience));
            }
        }
        let unsent = self.pace.give_up(now);
        if unsent > 0 {
            self.tally.failure(unsent, &Failure::Unsent, now);
        }
    }
}
