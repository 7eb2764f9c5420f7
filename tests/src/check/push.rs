//! kill -9 of either side while one pushes.

use super::*;

/// A push that is cut off and goes on: what was held by the server after the kill and what the next run pushes are
/// together at most everything plus one window.
pub(crate) fn push(plan: &Plan) -> Result<Outcome> {
    let dir = TempDir::new()?;
    let pair = Pair::new(plan, dir.path())?;
    let (undisturbed, began) = (pair.again("undisturbed")?, Instant::now());
    let serving = undisturbed.serve()?;
    undisturbed.client.result(&["sync", "rows"])?;
    let whole = began.elapsed();
    serving.kill()?;
    let mut figures = Vec::new();
    let mut holds = true;
    for victim in ["client", "server"] {
        let mut killed = None;
        for (moment, parts) in [3, 2, 4, 1].into_iter().enumerate() {
            let pair = pair.again(&format!("{victim}-{moment}"))?;
            let serving = pair.serve()?;
            let pushing = pair.client.start(&["sync", "rows"])?;
            wait(whole * parts / 6);
            if let Some(serving) = interrupt(Way::Http, victim, pushing, serving)? {
                drop(serving.stop()?);
            }
            let held = entries(&pair.server)?;
            if held > pair.before && held < pair.total {
                killed = Some((pair, held));
                break;
            }
            report(&format!("{victim} killed too early or late, {held} of {} held", pair.total));
        }
        let (pair, held) = killed.ok_or("no kill was in the middle of a push")?;
        let serving = pair.serve()?;
        let synced = pair.client.result(&["sync", "rows"])?;
        drop(serving.stop()?);
        let pushed = synced["databases"][0]["pushed"].as_u64().unwrap_or(0);
        let shown = pair.server.result(&["db", "show", "rows"])?;
        let window = WINDOW_BYTES * pair.total / shown["bytes"].as_u64().unwrap_or(1).max(1);
        let is_same = shown["state_hash"] == pair.client.result(&["db", "show", "rows"])?["state_hash"];
        let clean = [&pair.server, &pair.client]
            .iter()
            .all(|eid| eid.run(&["verify"]).is_ok_and(|ran| ran.code == Some(0)));
        holds &= is_same && clean && pushed > 0 && held + pushed <= pair.total + window;
        report(&format!("{victim} killed, {held} held, {pushed} pushed then"));
        figures.push(
            json!({ "victim": victim, "held_after_kill": held, "pushed_next": pushed, "total": pair.total,
            "window_entries": window, "same": is_same, "clean": clean }),
        );
    }
    Ok(Outcome { holds, figures: Value::Array(figures) })
}

/// A server, and a client that has written much of which the server has nothing.
struct Pair {
    server: Eid,
    client: Eid,
    /// How many entries the server holds.
    before: u64,
    /// How many the client holds.
    total: u64,
    program: PathBuf,
    dir: PathBuf,
    socket: String,
}

impl Pair {
    fn new(plan: &Plan, dir: &Path) -> Result<Self> {
        let csv = write_rows(dir, 0..plan.entries)?;
        let at = dir.join("origin");
        let (server, client) = Self::both(&plan.eid, &at);
        server.result(&["db", "create", "rows"])?;
        let (serving, address) = server.serve(Way::Http, "127.0.0.1:0")?;
        let shared = server.result(&["share", "rows", "--write"])?;
        client.result(&["join", shared["ticket"].as_str().ok_or("share gave no ticket")?, "--wait", "60"])?;
        drop(serving.stop()?);
        client.result(&["table", "import", "rows", "t", &csv, "--key", "key", "--batch", "1"])?;
        let (before, total) = (entries(&server)?, entries(&client)?);
        let socket = Way::Http.socket(&address).to_owned();
        Ok(Self { server, client, before, total, program: plan.eid.clone(), dir: dir.to_owned(), socket })
    }

    fn both(program: &Path, at: &Path) -> (Eid, Eid) {
        (Eid::new(program, at.join("server")), Eid::new(program, at.join("client")))
    }

    /// The same two from the beginning.
    fn again(&self, name: &str) -> Result<Self> {
        let at = self.dir.join(name);
        let copied = Command::new("cp").arg("-r").arg(self.dir.join("origin")).arg(&at).status()?;
        if !copied.success() {
            return Err(format!("nothing was copied to {}", at.display()).into());
        }
        let (server, client) = Self::both(&self.program, &at);
        let (program, dir, socket) = (self.program.clone(), self.dir.clone(), self.socket.clone());
        Ok(Self { server, client, program, dir, socket, ..*self })
    }

    fn serve(&self) -> Result<Running> {
        Ok(self.server.serve(Way::Http, &self.socket)?.0)
    }
}
