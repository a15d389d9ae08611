import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { client } from "./api/queries";
import { begin } from "./shell/theme";
import "./ui/tokens.css";
import "./ui/base.css";

begin();
const place = document.getElementById("app");
if (place) {
  createRoot(place).render(<StrictMode><QueryClientProvider client={client}><App /></QueryClientProvider></StrictMode>);
}
