// The shaders. Colours: 0-4 the statuses in order of attention, 5 card, 6 line, 7 strong line, 8 accent, 9 page, 10 ink.

const COMMON = `
precision highp float;
uniform vec4 uView;
uniform vec4 uSize;
vec2 onScreen(vec2 world) { return world * uView.x + uView.yz; }
vec4 clip(vec2 screen) { return vec4(screen / uSize.xy * vec2(2.0, -2.0) + vec2(-1.0, 1.0), 0.0, 1.0); }
`;

export const BOX_VERTEX = `#version 300 es
${COMMON}
in vec2 aCorner; in vec4 aRect; in vec4 aLook;
out vec2 vAt; out vec2 vHalf; out vec4 vLook;
void main() {
  vec2 low = onScreen(aRect.xy), high = onScreen(aRect.xy + aRect.zw);
  vec2 at = mix(low - 2.0, high + 2.0, aCorner);
  vHalf = (high - low) * 0.5;
  vAt = at - (low + high) * 0.5;
  vLook = aLook;
  gl_Position = clip(at);
}`;

export const BOX_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 uColours[11];
in vec2 vAt; in vec2 vHalf; in vec4 vLook;
out vec4 colour;
void main() {
  float small = min(vHalf.x, vHalf.y);
  float corner = min(vLook.x < 0.5 ? 11.0 : 8.0, small * 0.5);
  vec2 q = abs(vAt) - vHalf + corner;
  float far = length(max(q, 0.0)) + min(max(q.x, q.y), 0.0) - corner;
  float inside = clamp(0.5 - far, 0.0, 1.0);
  float wide = vLook.w > 0.5 ? 2.4 : 1.0;
  float edge = clamp(0.5 + far + wide, 0.0, 1.0) * inside;
  vec4 fill = vLook.x < 0.5 ? vec4(uColours[5].rgb, 0.5) : uColours[5];
  vec4 line = vLook.w > 0.5 ? uColours[8] : vLook.x < 0.5 ? uColours[6] : uColours[7];
  vec4 found = mix(fill, line, edge);
  if (vLook.x > 0.5 && vLook.y > -0.5) {
    vec4 mark = uColours[int(vLook.y + 0.5)];
    float stripe = step(vAt.x, -vHalf.x + min(4.0, vHalf.x * 0.12));
    if (vLook.y < 0.5) stripe *= step(mod(vAt.x - vAt.y, 6.0), 3.8);
    found = mix(found, mark, stripe);
  }
  float alpha = found.a * inside * vLook.z;
  colour = vec4(found.rgb * alpha, alpha);
}`;

const CURVE = `
vec2 curve(vec2 a, vec2 c, vec2 b, float t) { return mix(mix(a, c, t), mix(c, b, t), t); }
vec2 slope(vec2 a, vec2 c, vec2 b, float t) { vec2 s = mix(c - a, b - c, t); return s / max(length(s), 0.0001); }
`;

export const LINE_VERTEX = `#version 300 es
${COMMON}${CURVE}
in vec2 aCorner; in vec4 aEnds; in vec4 aBend; in vec4 aLook;
out vec4 vLook; out float vAlong; out float vAside;
void main() {
  vec2 a = onScreen(aEnds.xy), b = onScreen(aEnds.zw), c = onScreen(aBend.xy);
  float all = aBend.z * uView.x;
  float t = aCorner.x * max(0.0, 1.0 - 5.0 / max(all, 6.0));
  vec2 s = slope(a, c, b, t);
  float half_ = aLook.y * 0.5 + 0.75 + aLook.w;
  vec2 at = curve(a, c, b, t) + vec2(-s.y, s.x) * aCorner.y * half_;
  vLook = aLook;
  vAlong = t * all;
  vAside = aCorner.y * half_;
  gl_Position = clip(at);
}`;

export const LINE_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 uColours[11];
in vec4 vLook; in float vAlong; in float vAside;
out vec4 colour;
void main() {
  vec4 ink = uColours[int(vLook.x + 0.5)];
  float on = 1.0;
  if (vLook.x < 0.5) on = step(mod(vAlong - vAside, 6.0), 3.2);
  else if (vLook.x < 1.5) on = step(mod(vAlong, 12.0), 8.0);
  else if (vLook.x < 2.5) on = step(mod(vAlong, 5.5), 2.6);
  else if (vLook.x < 3.5) { float m = mod(vAlong, 19.0); on = max(step(m, 11.0), step(14.0, m) * step(m, 16.0)); }
  float edge = clamp(vLook.y * 0.5 + 0.5 - abs(vAside), 0.0, 1.0);
  float halo = vLook.w * 0.35 * clamp(vLook.y * 0.5 + 1.75 - abs(vAside), 0.0, 1.0);
  float alpha = max(edge * on * vLook.z, halo);
  vec3 said = edge * on > 0.01 ? ink.rgb : uColours[8].rgb;
  colour = vec4(said * alpha, alpha);
}`;

// The end: an arrow, or of what is blocked a bar across.
export const END_VERTEX = `#version 300 es
${COMMON}${CURVE}
in vec2 aCorner; in vec4 aEnds; in vec4 aBend; in vec4 aLook;
out vec4 vLook; out vec2 vAt;
void main() {
  vec2 a = onScreen(aEnds.xy), b = onScreen(aEnds.zw), c = onScreen(aBend.xy);
  float size = aBend.z * uView.x < 14.0 ? 0.0 : 6.0 + aLook.y;
  vec2 s = slope(a, c, b, 1.0);
  vec2 own = vec2(aCorner.x - 1.0, (aCorner.y - 0.5) * 1.15);
  vec2 at = b + (s * own.x + vec2(-s.y, s.x) * own.y) * size;
  vLook = aLook;
  vAt = vec2(aCorner.x, abs(aCorner.y - 0.5) * 2.0);
  gl_Position = clip(at);
}`;

export const END_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 uColours[11];
in vec4 vLook; in vec2 vAt;
out vec4 colour;
void main() {
  vec4 ink = uColours[int(vLook.x + 0.5)];
  bool isBar = vLook.x > 2.5 && vLook.x < 3.5;
  float within = isBar ? step(0.66, vAt.x) : clamp((1.0 - vAt.x - vAt.y) * 6.0 + 0.5, 0.0, 1.0);
  float alpha = within * max(vLook.z, 0.0);
  if (alpha < 0.004) discard;
  colour = vec4(ink.rgb * alpha, alpha);
}`;
