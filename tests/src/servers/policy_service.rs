//! A double of a company's policy service: answers as a test says. Named as one: the real ones are other people's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// What it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 with this body.
    Says(String),
    /// This status and no body.
    Status(u16),
    /// Takes the question and says nothing for this long.
    Silence(Duration),
    /// One byte of a good answer after the other, this far apart.
    Drip(Duration),
}

/// The service; stops when dropped.
#[derive(Debug)]
pub struct PolicyServiceDouble {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    questions: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl PolicyServiceDouble {
    /// Starts one that allows everything.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let double = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(Self::decision("allow"))),
            questions: Arc::default(),
            asked: Arc::default(),
            stop: Arc::default(),
        };
        let (answer, questions) = (Arc::clone(&double.answer), Arc::clone(&double.questions));
        let (asked, stop) = (Arc::clone(&double.asked), Arc::clone(&double.stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                asked.fetch_add(1, Ordering::Relaxed);
                let (answer, questions) = (answer.lock().unwrap().clone(), Arc::clone(&questions));
                std::thread::spawn(move || drop(serve(stream, &answer, &questions)));
            }
        });
        double
    }

    /// In the words of SentinelNet.
    pub fn decision(word: &str) -> Answer {
        let allowed = word == "allow";
        Answer::Says(format!(
            "{{\"decision\":\"{word}\",\"allowed\":{allowed},\"policyId\":\"pol-7\",\"policyVersion\":3,\
             \"ruleId\":\"r-1\",\"rationale\":\"because\"}}"
        ))
    }

    /// Where to ask.
    pub fn url(&self) -> String {
        format!("http://{}/sentinelnet/check", self.address)
    }

    /// What it answers from now on.
    pub fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Questions it got.
    pub fn questions(&self) -> Vec<Value> {
        self.questions.lock().unwrap().clone()
    }
}

impl Drop for PolicyServiceDouble {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: TcpStream, answer: &Answer, questions: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    questions.lock().unwrap().push(serde_json::from_slice(&body).unwrap_or_default());
    let mut stream = reader.into_inner();
    let good = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    match answer {
        Answer::Says(body) => stream.write_all(good(body).as_bytes()),
        Answer::Status(status) => {
            let head = format!("HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes())
        }
        Answer::Silence(time) => {
            std::thread::sleep(*time);
            Ok(())
        }
        Answer::Drip(apart) => {
            let Answer::Says(body) = PolicyServiceDouble::decision("allow") else { return Ok(()) };
            for byte in good(&body).into_bytes() {
                stream.write_all(&[byte])?;
                std::thread::sleep(*apart);
            }
            Ok(())
        }
    }
}
