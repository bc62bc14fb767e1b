(() => {
  const play = '<svg viewBox="0 0 10 10"><path d="M2 .5 9.2 5 2 9.5z"/></svg>';
  const stop = '<svg viewBox="0 0 10 10"><path d="M1 1h8v8H1z"/></svg>';
  let current = null;
  document.querySelectorAll(".card").forEach((card) => {
    const audio = card.querySelector("audio"), head = card.querySelector(".head");
    const button = document.createElement("button");
    const rest = () => {
      card.classList.remove("playing");
      button.innerHTML = play;
      button.setAttribute("aria-label", "play " + audio.getAttribute("aria-label"));
      if (current === audio) current = null;
    };
    audio.controls = false;
    audio.hidden = true;
    audio.before(button);
    rest();
    const step = () => {
      if (audio.paused) return;
      head.style.left = (100 * audio.currentTime) / (audio.duration || 1) + "%";
      requestAnimationFrame(step);
    };
    const toggle = () => {
      if (!audio.paused) { audio.pause(); return; }
      if (current) current.pause();
      current = audio;
      audio.currentTime = 0;
      audio.play().then(() => {
        card.classList.add("playing");
        button.innerHTML = stop;
        button.setAttribute("aria-label", "stop");
        step();
      }, rest);
    };
    button.addEventListener("click", toggle);
    card.querySelector(".stage").addEventListener("click", toggle);
    audio.addEventListener("pause", rest);
    audio.addEventListener("ended", rest);
  });
  document.querySelectorAll(".copy").forEach((panel) => {
    const text = panel.querySelector("pre"), button = document.createElement("button");
    const name = button.textContent = "Copy";
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(text);
      let done = true;
      try { await navigator.clipboard.writeText(text.textContent); } catch { done = document.execCommand("copy"); }
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = name; }, 1500);
    });
    panel.querySelector(".more").append(button);
  });
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const heads = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const passed = heads.filter((h) => h.getBoundingClientRect().top < innerHeight * 0.35).pop() || heads[0];
    links.forEach((a, id) => a.classList.toggle("here", passed && id === passed.id));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
})();
