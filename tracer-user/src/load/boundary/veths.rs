//! The host's ends of pods' veths, as the kernel tells of them: all that are there, then each that
//! comes or goes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// `RTNLGRP_LINK` (include/uapi/linux/rtnetlink.h).
const LINKS: u32 = 1;

/// An interface whose other end is in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Veth {
    /// The kernel's number of it.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
}

/// What the kernel told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A veth is there, perhaps for long.
    There(Veth),
    /// An interface is gone, whatever it was.
    Gone(u32),
    /// All that were asked for have been told.
    Done,
}

/// A socket that hears of them.
pub(super) struct Veths(Socket);

impl Veths {
    /// Listens in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub(super) fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.add_membership(LINKS)?;
        Ok(Self(socket))
    }

    /// Asks for all that are there; they come as news like the others.
    ///
    /// # Errors
    /// The kernel does not take the question.
    pub(super) fn ask(&self) -> io::Result<()> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(question));
        message.header.flags = NLM_F_DUMP | NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(|_whole| ())
    }

    /// Hands over all that are there.
    ///
    /// # Errors
    /// As [`Veths::next`].
    pub(super) fn all(&self, mut each: impl FnMut(News)) -> io::Result<()> {
        self.ask()?;
        loop {
            for news in self.next()? {
                if news == News::Done {
                    return Ok(());
                }
                each(news);
            }
        }
    }

    /// Waits for news.
    ///
    /// # Errors
    /// `ENOBUFS` when there were more than the socket holds: some are lost then, and all have to be
    /// asked for again. Others as the kernel has them.
    pub(super) fn next(&self) -> io::Result<Vec<News>> {
        let (bytes, _from) = self.0.recv_from_full()?;
        read(&bytes)
    }
}

impl AsFd for Veths {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The messages of one datagram.
fn read(mut bytes: &[u8]) -> io::Result<Vec<News>> {
    let mut news = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes);
        let message = message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        // Messages are padded to four bytes, but for the last.
        bytes = bytes
            .get(length.max(1).next_multiple_of(4)..)
            .unwrap_or_default();
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                news.extend(veth(link).map(News::There));
            }
            // What leaves a bridge is told of as gone as well, for that family.
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                if link.header.interface_family == AddressFamily::Unspec =>
            {
                news.push(News::Gone(link.header.index));
            }
            NetlinkPayload::Done(_) => news.push(News::Done),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            _ => {}
        }
    }
    Ok(news)
}

/// The veth that a link is, if its other end is in another network namespace.
fn veth(link: LinkMessage) -> Option<Veth> {
    let index = link.header.index;
    let (mut name, mut is_veth, mut leads_out) = (None, false, false);
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(told) => name = Some(told),
            LinkAttribute::LinkInfo(info) => {
                is_veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            // Told only where the other end is elsewhere (`rtnl_fill_link_netnsid` in
            // net/core/rtnetlink.c).
            LinkAttribute::LinkNetNsId(_) => leads_out = true,
            _ => {}
        }
    }
    let name = name.filter(|_| is_veth && leads_out)?;
    Some(Veth { index, name })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "an error is the result of the test")]
mod tests {
    use super::*;

    fn datagram(family: AddressFamily, gone: bool, attributes: Vec<LinkAttribute>) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = 7;
        link.header.interface_family = family;
        link.attributes = attributes;
        let message = if gone {
            RouteNetlinkMessage::DelLink(link)
        } else {
            RouteNetlinkMessage::NewLink(link)
        };
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn only_what_leads_into_another_namespace_is_a_pods() {
        let name = || LinkAttribute::IfName("veth7".into());
        let kind = |kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
        let elsewhere = LinkAttribute::LinkNetNsId(0);
        let there = News::There(Veth {
            index: 7,
            name: "veth7".into(),
        });
        let unspec = AddressFamily::Unspec;
        for (family, gone, attributes, expected) in [
            (
                unspec,
                false,
                vec![name(), kind(InfoKind::Veth), elsewhere.clone()],
                vec![there],
            ),
            (unspec, false, vec![name(), kind(InfoKind::Veth)], vec![]),
            (
                unspec,
                false,
                vec![name(), kind(InfoKind::Bridge), elsewhere],
                vec![],
            ),
            (unspec, true, vec![name()], vec![News::Gone(7)]),
            (AddressFamily::Bridge, true, vec![name()], vec![]),
        ] {
            let bytes = datagram(family, gone, attributes);
            assert_eq!(read(&bytes).unwrap(), expected);
            // Cut anywhere it is an error, and no panic.
            for end in 1..bytes.len() {
                assert!(read(bytes.get(..end).unwrap()).is_err(), "{end}");
            }
        }
    }
}
