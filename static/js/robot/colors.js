// Colours of the style sheet for canvases, which know no `light-dark()`.

const probe = document.createElement("i");
probe.hidden = true;
document.body.append(probe);

export function color(token) {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
}

export const LINES = 8;

export const lineColor = (number) => color(`line-${(number % LINES) + 1}`);

/** A canvas made as sharp as the screen; returns its context in CSS pixels, and its size. */
export function prepare(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  const w = Math.round(width * ratio);
  const h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
