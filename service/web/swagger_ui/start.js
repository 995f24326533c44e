// Starts Swagger UI for the document that the page names. A key stays in this page: it is gone after a reload.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("try");
  window.SwaggerUIBundle({
    domNode: place,
    url: place.dataset.openapi,
    validatorUrl: null, // it would send the document to another host
    persistAuthorization: false,
    withCredentials: false,
    deepLinking: true,
    filter: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    requestSnippetsEnabled: false,
  });
});
