//! What goes between the loop and its peers.

use std::net::IpAddr;

use super::super::disk::Job;
use super::super::peers::{News, Peer};
use super::super::wire::{Envelope, Message};
use super::Loop;
use crate::agent::clock::boottime;
use crate::agent::tell::set;
use crate::election::member::Member;
use crate::election::message::Input;
use crate::names;

impl Loop {
    pub(super) fn send(&mut self, to: Member, message: Message) {
        let name = to.name.clone();
        let from = self.me.clone();
        self.peer(name.as_str())
            .send(Envelope { from, to, message });
    }

    pub(super) fn peer(&mut self, name: &str) -> &Peer {
        let place = &self.config.place;
        let (means, known) = (&self.means, self.roster.address(name));
        self.peers.entry(name.to_owned()).or_insert_with(|| {
            let host = names::instance_host(name, &place.set, &place.namespace);
            let peer = Peer::new(name, &host, means.clone());
            if let Some(address) = known {
                peer.learn(address);
            }
            peer
        })
    }

    /// An instance has asked who this is: it is there, whether or not its name leads there yet.
    pub(super) fn called(&mut self, name: &str, from: IpAddr) {
        let met = self.roster.met().contains_key(name);
        let peer = self.peer(name);
        peer.learn(from);
        if !met {
            peer.introduce();
        }
    }

    pub(super) fn hear(&mut self, (envelope, source): (Envelope, IpAddr)) {
        let Envelope { from, to, message } = envelope;
        if to != self.me {
            return;
        }
        let heard = self.roster.has_heard(&from);
        let peer = self.peer(from.name.as_str());
        peer.learn(source);
        if !heard {
            peer.introduce();
        }
        self.step(match message {
            Message::Ask(ask) => Input::Asked(from, ask),
            Message::Answer(answer) => Input::Answered(from, answer),
        });
    }

    pub(super) fn meet(&mut self, news: &News) {
        let member = &news.introduction.member;
        let address = news.introduction.address.parse().unwrap_or(news.address);
        if let Some(peer) = self.peers.get(member.name.as_str()) {
            peer.learn(address);
        }
        for (name, address) in &news.introduction.peers {
            if let Some(peer) = self.peers.get(name) {
                peer.hear_of(*address);
            }
        }
        let zone = news.introduction.zone.as_ref();
        let met = self.roster.meet(member, Some(address), zone);
        if met {
            tracing::info!(peer = %member, %address, "a peer introduced itself");
            self.job(Job::Met(self.roster.met().clone()));
        }
        let room = news.introduction.room;
        if self.roster.hear_room(member.name.as_str(), room) || met {
            self.gather();
            self.publish();
        }
    }

    /// Who is in the set, and connections to them.
    pub(super) fn gather(&mut self) {
        let charter = self.machine.charter().cloned();
        let names = self.roster.names(&self.setup, charter.as_ref());
        self.peers.retain(|name, _| names.contains(name));
        for name in &names {
            self.peer(name);
        }
        set(&self.told.names, names);
        let connected = self.connected();
        let members = self
            .roster
            .members(&self.setup, charter.as_ref(), &connected);
        // It leads to no charter by itself that would lead back here: a charter is written first.
        if self.renewing.is_none() {
            let input = Input::Peers(members);
            for effect in self.machine.step(boottime(), input) {
                self.perform(effect);
            }
        }
    }
}
