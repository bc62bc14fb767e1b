const save = (address, name) => {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
};
(() => {
  const play = '<svg viewBox="0 0 10 10"><path d="M2 .5 9.2 5 2 9.5z"/></svg>';
  const stop = '<svg viewBox="0 0 10 10"><path d="M1 1h8v8H1z"/></svg>';
  let current = null;
  document.querySelectorAll(".card").forEach((card) => {
    const audio = card.querySelector("audio"), head = card.querySelector(".head");
    if (!audio) return;
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
      if (head) head.style.left = (100 * audio.currentTime) / (audio.duration || 1) + "%";
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
    card.querySelector(".stage")?.addEventListener("click", toggle);
    audio.addEventListener("pause", rest);
    audio.addEventListener("ended", rest);
  });
  const sizes = new ResizeObserver((all) => all.forEach(({ target }) => {  // what scrolls can be reached by keys
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }));
  document.querySelectorAll(".scroll, .picture").forEach((one) => sizes.observe(one));
  document.querySelectorAll(".picture").forEach((picture) => {
    const image = picture.querySelector("img"), line = picture.nextElementSibling, table = line.querySelector("a");
    const drawn = image.src.startsWith("data:image/svg");
    const add = (kind, work) => {
      const button = document.createElement("button");
      button.textContent = kind;
      button.setAttribute("aria-label", "Save as " + kind + ": " + image.alt);
      button.addEventListener("click", work);
      line.insertBefore(button, table);
    };
    if (drawn) add("SVG", () => save(image.src, image.dataset.name + ".svg"));
    add("PNG", () => {
      if (!drawn) { save(image.src, image.dataset.name + ".png"); return; }
      const canvas = document.createElement("canvas"), scale = 2;
      canvas.width = scale * image.naturalWidth;
      canvas.height = scale * image.naturalHeight;
      const paper = canvas.getContext("2d");
      paper.fillStyle = "#fff";
      paper.fillRect(0, 0, canvas.width, canvas.height);
      paper.drawImage(image, 0, 0, canvas.width, canvas.height);
      save(canvas.toDataURL("image/png"), image.dataset.name + ".png");
    });
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details:not(.copies)").forEach((one) => {
    if (!one.open) { one.open = true; one.dataset.closed = "yes"; }
  }));
  addEventListener("afterprint", () => document.querySelectorAll("details[data-closed]").forEach((one) => {
    one.open = false;
    delete one.dataset.closed;
  }));
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
