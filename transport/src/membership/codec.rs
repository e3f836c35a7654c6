//! foca's packets as bytes: fixed fields, sizes checked before every read and write.

use super::peer::{EPOCH_MAX, Peer};
use bytes::{Buf, BufMut, Bytes};
use foca::{Codec, Header, Member, Message, State};
use skep_runtime::NodeId;

/// Bytes of one gossip packet: what surely fits into a QUIC datagram at the smallest MTU.
pub const PACKET_BYTES_MAX: usize = 1100;

const PEER_BYTES: usize = 32 + 8;
const MEMBER_BYTES: usize = PEER_BYTES + 2 + 1;
/// Two peers, an incarnation, a tag, a peer and a probe number.
const HEADER_BYTES_MAX: usize = 3 * PEER_BYTES + 2 + 1 + 1;

/// The codec. Has no state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packets;

/// A packet is not one of ours. It was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("the packet ends too early")]
    Short,
    #[error("the packet has an unknown {0}")]
    Unknown(&'static str),
    #[error("the packet has no room left")]
    Full,
}

impl Codec<Peer> for Packets {
    type Error = Error;

    fn encode_header(&mut self, header: &Header<Peer>, mut buf: impl BufMut) -> Result<(), Error> {
        if buf.remaining_mut() < HEADER_BYTES_MAX {
            return Err(Error::Full);
        }
        put_peer(&mut buf, &header.src);
        buf.put_u16(header.src_incarnation);
        put_peer(&mut buf, &header.dst);
        let (tag, peer, number) = match &header.message {
            Message::Ping(n) => (1, None, Some(*n)),
            Message::Ack(n) => (2, None, Some(*n)),
            Message::PingReq { target, probe_number } => (3, Some(target), Some(*probe_number)),
            Message::IndirectPing { origin, probe_number } => (4, Some(origin), Some(*probe_number)),
            Message::IndirectAck { target, probe_number } => (5, Some(target), Some(*probe_number)),
            Message::ForwardedAck { origin, probe_number } => (6, Some(origin), Some(*probe_number)),
            Message::Announce => (7, None, None),
            Message::Feed => (8, None, None),
            Message::Gossip => (9, None, None),
            Message::Broadcast => (10, None, None),
            Message::TurnUndead => (11, None, None),
        };
        buf.put_u8(tag);
        if let Some(peer) = peer {
            put_peer(&mut buf, peer);
        }
        if let Some(number) = number {
            buf.put_u8(number);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Peer>, Error> {
        let src = take_peer(&mut buf)?;
        let src_incarnation = buf.try_get_u16().map_err(|_| Error::Short)?;
        let dst = take_peer(&mut buf)?;
        let message = match take_u8(&mut buf)? {
            1 => Message::Ping(take_u8(&mut buf)?),
            2 => Message::Ack(take_u8(&mut buf)?),
            3 => Message::PingReq { target: take_peer(&mut buf)?, probe_number: take_u8(&mut buf)? },
            4 => Message::IndirectPing { origin: take_peer(&mut buf)?, probe_number: take_u8(&mut buf)? },
            5 => Message::IndirectAck { target: take_peer(&mut buf)?, probe_number: take_u8(&mut buf)? },
            6 => Message::ForwardedAck { origin: take_peer(&mut buf)?, probe_number: take_u8(&mut buf)? },
            7 => Message::Announce,
            8 => Message::Feed,
            9 => Message::Gossip,
            10 => Message::Broadcast,
            11 => Message::TurnUndead,
            _ => return Err(Error::Unknown("message")),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Peer>, mut buf: impl BufMut) -> Result<(), Error> {
        if buf.remaining_mut() < MEMBER_BYTES {
            return Err(Error::Full);
        }
        put_peer(&mut buf, member.id());
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 1,
            State::Suspect => 2,
            State::Down => 3,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Peer>, Error> {
        let peer = take_peer(&mut buf)?;
        let incarnation = buf.try_get_u16().map_err(|_| Error::Short)?;
        let state = match take_u8(&mut buf)? {
            1 => State::Alive,
            2 => State::Suspect,
            3 => State::Down,
            _ => return Err(Error::Unknown("state")),
        };
        Ok(Member::new(peer, incarnation, state))
    }
}

/// A packet of our own making, as foca would write it: gossip from one run to another that carries `news`, at most.
pub(super) fn gossip(src: Peer, src_incarnation: u16, dst: Peer, news: Option<&Member<Peer>>) -> Result<Bytes, Error> {
    let mut packet = Vec::with_capacity(HEADER_BYTES_MAX + 2 + MEMBER_BYTES);
    Packets.encode_header(&Header { src, src_incarnation, dst, message: Message::Gossip }, &mut packet)?;
    if let Some(member) = news {
        packet.put_u16(1);
        Packets.encode_member(member, &mut packet)?;
    }
    Ok(packet.into())
}

fn put_peer(buf: &mut impl BufMut, peer: &Peer) {
    buf.put_slice(peer.id.as_bytes());
    buf.put_u64(peer.epoch);
}

fn take_peer(buf: &mut impl Buf) -> Result<Peer, Error> {
    let mut key = [0; 32];
    buf.try_copy_to_slice(&mut key).map_err(|_| Error::Short)?;
    let epoch = buf.try_get_u64().map_err(|_| Error::Short)?;
    if epoch > EPOCH_MAX {
        return Err(Error::Unknown("time"));
    }
    Ok(Peer { id: NodeId::from_bytes(key), epoch })
}

fn take_u8(buf: &mut impl Buf) -> Result<u8, Error> {
    buf.try_get_u8().map_err(|_| Error::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn peer(n: u8) -> Peer {
        Peer { id: NodeId::from_bytes([n; 32]), epoch: u64::from(n) * 1000 }
    }

    #[test]
    fn every_message_reads_back() {
        let messages = [
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq { target: peer(3), probe_number: 3 },
            Message::IndirectPing { origin: peer(3), probe_number: 4 },
            Message::IndirectAck { target: peer(3), probe_number: 5 },
            Message::ForwardedAck { origin: peer(3), probe_number: 6 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header { src: peer(1), src_incarnation: 7, dst: peer(2), message };
            let mut bytes = Vec::new();
            Packets.encode_header(&header, &mut bytes).unwrap();
            assert!(bytes.len() <= HEADER_BYTES_MAX);
            assert_eq!(Packets.decode_header(bytes.as_slice()), Ok(header));
            for cut in 0..bytes.len() {
                assert_eq!(Packets.decode_header(&bytes[..cut]), Err(Error::Short));
            }
        }
    }

    #[test]
    fn an_epoch_nobody_could_outlive_is_refused() {
        let mut bytes = Vec::new();
        Packets.encode_member(&Member::alive(Peer { epoch: EPOCH_MAX + 1, ..peer(1) }), &mut bytes).unwrap();
        assert_eq!(Packets.decode_member(bytes.as_slice()), Err(Error::Unknown("time")));
    }

    #[test]
    fn a_full_packet_takes_no_more_and_stays_clean() {
        let mut room = [0; MEMBER_BYTES - 1];
        assert_eq!(Packets.encode_member(&Member::alive(peer(1)), room.as_mut_slice()), Err(Error::Full));
        assert_eq!(room, [0; MEMBER_BYTES - 1]);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_and_never_panic(bytes: Vec<u8>) {
            let _ = Packets.decode_header(bytes.as_slice());
            let _ = Packets.decode_member(bytes.as_slice());
        }
    }
}
