//! stub
#![allow(missing_docs, unused)]
use super::*; use std::path::PathBuf; use std::sync::Arc; use rovy_common::maps::*; use rovy_common::label::Width;
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct XdpError;
pub struct Params{pub pin_dir:PathBuf,pub sessions:u32,pub width:Width,pub ethertype:u16,pub log_level:u8}
#[derive(Clone,Copy,PartialEq,Eq,Debug)] pub enum Mode{Native,Generic}
#[derive(Clone,Copy,PartialEq,Eq,Debug)] pub enum Wish{Auto,Native,Generic}
#[derive(Default)] pub struct Adopted{pub links:Vec<(u16,TxLink)>,pub attached:Vec<Attached>}
#[derive(Clone)] pub struct Attached{pub ifindex:u32,pub ifname:String,pub mode:Mode,pub why:String,pub port:u32}
pub struct Xdp; pub struct Counters;
impl super::Counters for Counters { fn draw(&self,_:u32)->Option<u64>{None} fn reset(&self,_:u32){} }
impl Xdp{
 pub fn open(_:&Params)->Result<(Xdp,Adopted),XdpError>{Err(XdpError)}
 pub fn attach(&mut self,_:u32,_:&str,_:Wish)->Result<Attached,XdpError>{Err(XdpError)}
 pub fn detach(&mut self,_:u32)->Result<(),XdpError>{Err(XdpError)}
 pub fn add_port(&mut self,_:u32)->Result<u32,XdpError>{Err(XdpError)}
 pub fn add_local(&mut self,_:LocalKey)->Result<(),XdpError>{Err(XdpError)}
 pub fn remove_local(&mut self,_:LocalKey)->Result<(),XdpError>{Err(XdpError)}
 pub fn counters(&self)->Arc<Counters>{Arc::new(Counters)}
 pub fn receiving_at(&self,_:u32)->Result<Option<RxLink>,XdpError>{Ok(None)}
 pub fn clear_rx(&mut self,_:u32)->Result<Option<Seen>,XdpError>{Ok(None)}
 pub fn transmit_counter(&self,_:u16)->Option<u32>{None}
 pub fn unpin_all(self)->Result<(),XdpError>{Ok(())}
}
impl Dataplane for Xdp{ type Error=XdpError;
 fn set_receive(&mut self,_:&RxLink,_:Endpoint)->Result<(),XdpError>{Ok(())}
 fn clear_receive(&mut self,_:u32)->Result<Option<Seen>,XdpError>{Ok(None)}
 fn set_transmit(&mut self,_:&TxLink,_:Endpoint)->Result<(),XdpError>{Ok(())}
 fn clear_transmit(&mut self,_:u16)->Result<(),XdpError>{Ok(())}
 fn counts(&self)->Result<[u64;64],XdpError>{Ok([0;64])}
 fn slot_stats(&self,_:u16)->Result<SlotStats,XdpError>{Ok(Default::default())}
}
