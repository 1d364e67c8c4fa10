// A threaded echo server, a greeting server and their client, with nothing but std::net.
//
//   greeter serve ECHO-ADDRESS GREETING-ADDRESS      a thread for each connection
//   greeter talk ECHO-ADDRESS GREETING-ADDRESS       16 threads; fails unless every byte comes back
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

fn echo(mut s: TcpStream) -> io::Result<()> {
    let mut b = [0u8; 32768];
    loop {
        match s.read(&mut b)? {
            0 => return Ok(()),
            n => s.write_all(&b[..n])?,
        }
    }
}

fn greet(s: TcpStream) -> io::Result<()> {
    let mut out = s.try_clone()?;
    writeln!(out, "who are you?")?;
    for name in BufReader::new(s).lines() {
        writeln!(out, "hello, {}!", name?)?;
    }
    Ok(())
}

fn serve(address: &str, talk: fn(TcpStream) -> io::Result<()>) -> io::Result<()> {
    for s in TcpListener::bind(address)?.incoming() {
        let s = s?;
        thread::spawn(move || talk(s));
    }
    Ok(())
}

fn echo_client(address: &str, k: u64) -> io::Result<()> {
    let mut s = TcpStream::connect(address)?;
    s.set_nodelay(true)?;
    s.set_read_timeout(Some(Duration::from_secs(20)))?;
    assert_eq!(s.nodelay()?, true);
    let mut x = k + 1;
    let data: Vec<u8> = (0..1_000_000)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect();
    let (mut out, sent) = (s.try_clone()?, data.clone());
    let sender = thread::spawn(move || -> io::Result<()> {
        out.write_all(&sent)?;
        out.shutdown(Shutdown::Write)
    });
    let mut got = Vec::new();
    s.read_to_end(&mut got)?;
    sender.join().unwrap()?;
    if got != data {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} bytes", got.len())));
    }
    Ok(())
}

fn greeting_client(address: &str, k: u64) -> io::Result<()> {
    let mut out = TcpStream::connect(address)?;
    let mut lines = BufReader::new(out.try_clone()?).lines();
    assert_eq!(lines.next().unwrap()?, "who are you?");
    for i in 0..100 {
        writeln!(out, "{} of {}", i, k)?;
        assert_eq!(lines.next().unwrap()?, format!("hello, {} of {}!", i, k));
    }
    out.shutdown(Shutdown::Both)
}

fn main() -> io::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    if a[1] == "serve" {
        let greeting = a[3].clone();
        thread::spawn(move || serve(&greeting, greet).unwrap());
        return serve(&a[2], echo);
    }
    let threads: Vec<_> = (0..16u64)
        .map(|k| {
            let (e, g) = (a[2].clone(), a[3].clone());
            thread::spawn(move || if k % 2 == 0 { echo_client(&e, k) } else { greeting_client(&g, k) })
        })
        .collect();
    for t in threads {
        t.join().unwrap()?;
    }
    Ok(())
}
