# One image for `serve` and `migrate`. Its steps are those of `make install`, with the runtime lock.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/dovecote
COPY requirements.lock ./
RUN /opt/dovecote/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY clients clients
COPY service service
COPY migrations migrations
RUN python -m pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir dist clients/python . \
 && /opt/dovecote/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps dist/*.whl

FROM python:3.13-slim
COPY --from=build /opt/dovecote /opt/dovecote
ENV PATH=/opt/dovecote/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DOVECOTE_HOST=0.0.0.0 \
    DOVECOTE_DATABASE_URL=sqlite:////data/dovecote.db
RUN useradd --uid 10001 --no-create-home dovecote && install -d -o dovecote /data
USER dovecote
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('DOVECOTE_PORT', '8080')}/healthz\", timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dovecote"]
CMD ["serve"]
