// Colours come from the style sheet, so that charts and text change together.

export type Colour =
  | "blue" | "sky" | "orange" | "green" | "purple" | "red" | "grey" | "faint"
  | "ink" | "muted" | "line" | "paper" | "veil";

let cached = new Map<Colour, string>();
const listeners = new Set<() => void>();

export function colour(name: Colour): string {
  let value = cached.get(name);
  if (value === undefined) {
    value = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
    cached.set(name, value);
  }
  return value;
}

/** onThemeChange calls a function after every change until it is released. */
export function onThemeChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function changed(): void {
  cached = new Map();
  for (const listener of listeners) listener();
}

const system = matchMedia("(prefers-color-scheme: dark)");
const key = "tidemark-theme";

export function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen ? chosen === "dark" : system.matches;
}

export function setTheme(theme: "light" | "dark"): void {
  document.documentElement.dataset["theme"] = theme;
  try {
    localStorage.setItem(key, theme);
  } catch {
    // Storage is closed to some files: the choice then lasts as long as the page.
  }
  changed();
}

export function startTheme(): void {
  try {
    const chosen = localStorage.getItem(key);
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset["theme"] = chosen;
  } catch {
    // As above: the system's choice holds.
  }
  system.addEventListener("change", changed);
}

/** borrowTheme runs the page under another theme until the result is called. */
export function borrowTheme(theme: "light" | "dark"): () => void {
  const before = document.documentElement.dataset["theme"];
  document.documentElement.dataset["theme"] = theme;
  changed();
  return () => {
    if (before) document.documentElement.dataset["theme"] = before;
    else delete document.documentElement.dataset["theme"];
    changed();
  };
}
