// Comfort only: the pages do all they do without it. Copies digests and commands, and sends a filter when it is chosen.
"use strict";
document.querySelectorAll("code.digest, code.command").forEach((code) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  code.after(button);
});
document.querySelectorAll("form.filters select").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
});

// The fleet page stays current: counts and rows are fetched anew when the daemon says that they changed.
const running = document.querySelector("[data-running]");
if (running && window.EventSource) {
  const bytes = (count) => count < 1e6 ? `${Math.round(count / 1e3)} kB` : count < 1e9 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e9).toFixed(2)} GB`;
  let revision = null;
  let waiting = false;
  const renew = async () => {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelectorAll("[data-live]");
    document.querySelectorAll("[data-live]").forEach((part, index) => {
      if (fresh[index] && !part.contains(document.activeElement)) part.replaceWith(document.adoptNode(fresh[index]));
    });
  };
  const tell = (message) => {
    const news = JSON.parse(message.data);
    running.hidden = news.running.length === 0;
    running.replaceChildren(...news.running.slice(0, 8).map((image) => {
      const item = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = `${image.name} ${image.platform}`;
      const bar = document.createElement("progress");
      if (image.total_bytes) { bar.max = image.total_bytes; bar.value = image.done_bytes; }
      const told = document.createElement("span");
      told.className = "muted small";
      told.textContent = `${image.layers_known} of ${image.layers} layers` + (image.done_bytes ? `, ${bytes(image.done_bytes)}` : "");
      item.append(name, bar, told);
      return item;
    }));
    if (revision !== null && revision !== news.revision && !waiting) {
      waiting = true;
      setTimeout(() => { waiting = false; renew(); }, 1500);
    }
    revision = news.revision;
  };
  let events = null;
  const listen = () => {
    events = new EventSource("/events");
    events.addEventListener("message", tell);
  };
  // A page that a browser keeps for going back must not hold its connection: after six of them nothing would load any more.
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => { if (event.persisted) { listen(); renew(); } });
  listen();
}
