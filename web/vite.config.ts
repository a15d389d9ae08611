/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/ringfence/web",
    emptyOutDir: true,
    target: ["chrome123", "firefox121", "safari17.5"],
    modulePreload: { polyfill: false },
  },
  server: {
    // `npm run dev` beside a controller: RINGFENCE_SERVER=https://localhost:8443 npm run dev
    proxy: { "/v1": { target: process.env.RINGFENCE_SERVER ?? "https://127.0.0.1:8443", secure: false } },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
