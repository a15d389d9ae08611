// Boxes and lines by WebGL: one draw call each for boxes, lines and their ends, however many there are.
//
// PixiJS holds the context, buffers and programs; the shaders are ours because a line keeps its width and its dashes at
// any scale, which no ready-made shape does. `unsafe-eval` is Pixi's name for the module that does without eval.

import "pixi.js/unsafe-eval";
import "pixi.js/mesh";
import { Buffer, BufferUsage, Container, Geometry, GlProgram, Mesh, Shader, UniformGroup, WebGLRenderer } from "pixi.js";
import type { Camera } from "./camera";
import { BOX, type Drawing, LINE, type Painter, type Palette, through } from "./drawing";
import { BOX_FRAGMENT, BOX_VERTEX, END_FRAGMENT, END_VERTEX, LINE_FRAGMENT, LINE_VERTEX } from "./shaders";

const SEGMENTS = 10;

function strip(): { corners: Float32Array; indices: Uint16Array } {
  const corners: number[] = [];
  const indices: number[] = [];
  for (let at = 0; at <= SEGMENTS; at++) {
    corners.push(at / SEGMENTS, -1, at / SEGMENTS, 1);
    if (at > 0) indices.push(2 * at - 2, 2 * at - 1, 2 * at, 2 * at - 1, 2 * at + 1, 2 * at);
  }
  return { corners: new Float32Array(corners), indices: new Uint16Array(indices) };
}

type View = UniformGroup<{ uView: { value: Float32Array; type: "vec4<f32>" }; uSize: { value: Float32Array; type: "vec4<f32>" }; uColours: { value: Float32Array; type: "vec4<f32>"; size: number } }>;

class Layer {
  readonly mesh: Mesh<Geometry, Shader>;
  private readonly instances = new Buffer({ data: new Float32Array(BOX), usage: BufferUsage.VERTEX | BufferUsage.COPY_DST });

  constructor(corners: Float32Array, indices: Uint16Array, fields: readonly (readonly [string, number])[], sources: readonly [string, string], view: View) {
    const stride = fields.reduce((sum, [, size]) => sum + size * 4, 0);
    let offset = 0;
    const attributes = Object.fromEntries(fields.map(([name, size]) => {
      const one = { buffer: this.instances, format: `float32x${size}` as "float32x4", stride, offset, instance: true };
      offset += size * 4;
      return [name, one];
    }));
    const geometry = new Geometry({
      attributes: { aCorner: { buffer: new Buffer({ data: corners, usage: BufferUsage.VERTEX }), format: "float32x2", stride: 8, offset: 0 }, ...attributes },
      indexBuffer: new Buffer({ data: indices, usage: BufferUsage.INDEX }),
      instanceCount: 0,
    });
    const shader = new Shader({ glProgram: GlProgram.from({ vertex: sources[0], fragment: sources[1], preferredFragmentPrecision: "highp" }), resources: { view } });
    this.mesh = new Mesh({ geometry, shader });
  }

  put(values: Float32Array, count: number): void {
    this.mesh.visible = count > 0;
    this.mesh.geometry.instanceCount = count;
    if (count > 0) this.instances.data = values;
  }
}

export async function glPainter(canvas: HTMLCanvasElement): Promise<Painter> {
  const renderer = new WebGLRenderer();
  await renderer.init({
    canvas, width: canvas.clientWidth || 1, height: canvas.clientHeight || 1, antialias: false, backgroundAlpha: 0, preferWebGLVersion: 2, skipExtensionImports: true,
    clearBeforeRender: true, preserveDrawingBuffer: false, powerPreference: "high-performance", resolution: devicePixelRatio,
  });
  const view: View = new UniformGroup({
    uView: { value: new Float32Array(4), type: "vec4<f32>" },
    uSize: { value: new Float32Array(4), type: "vec4<f32>" },
    uColours: { value: new Float32Array(4 * 11), type: "vec4<f32>", size: 11 },
  });
  const square = new Float32Array([0, 0, 1, 0, 1, 1, 0, 1]);
  const { corners, indices } = strip();
  const boxFields = [["aRect", 4], ["aLook", 4]] as const;
  const lineFields = [["aEnds", 4], ["aBend", 4], ["aLook", 4]] as const;
  const under = new Layer(square, new Uint16Array([0, 1, 2, 0, 2, 3]), boxFields, [BOX_VERTEX, BOX_FRAGMENT], view);
  const lines = new Layer(corners, indices, lineFields, [LINE_VERTEX, LINE_FRAGMENT], view);
  const over = new Layer(square, new Uint16Array([0, 1, 2, 0, 2, 3]), boxFields, [BOX_VERTEX, BOX_FRAGMENT], view);
  const ends = new Layer(square, new Uint16Array([0, 1, 2, 0, 2, 3]), lineFields, [END_VERTEX, END_FRAGMENT], view);
  const crossing = new Layer(corners, indices, lineFields, [LINE_VERTEX, LINE_FRAGMENT], view);
  const stage = new Container();
  stage.addChild(under.mesh, lines.mesh, over.mesh, crossing.mesh, ends.mesh);

  return {
    kind: "webgl",
    put(drawing: Drawing) {
      under.put(drawing.frames, drawing.frames.length / BOX);
      over.put(drawing.cards, drawing.cards.length / BOX);
      lines.put(drawing.lines, drawing.lines.length / LINE);
      ends.put(drawing.lines, drawing.lines.length / LINE);
      const faint = through(drawing);
      crossing.put(faint, faint.length / LINE);
    },
    colour(palette: Palette) {
      view.uniforms.uColours.set(palette.flat());
      view.update();
    },
    paint(camera: Camera, width: number, height: number) {
      if (renderer.screen.width !== width || renderer.screen.height !== height || renderer.resolution !== devicePixelRatio) renderer.resize(width, height, devicePixelRatio);
      view.uniforms.uView.set([camera.scale, camera.x, camera.y, devicePixelRatio]);
      view.uniforms.uSize.set([width, height, 0, 0]);
      view.update();
      renderer.render({ container: stage });
    },
    close() {
      renderer.destroy();
    },
  };
}
