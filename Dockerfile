# One image for `serve`, `migrate` and every other command. It installs only what the locks name, with hashes.
# To pin the base image: docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:<digest> .
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/dovecote && python -m venv /opt/build \
 && /opt/dovecote/bin/python -m pip install --require-hashes -r requirements.lock \
 && /opt/build/bin/python -m pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY service service
COPY migrations migrations
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir dist ./clients/python . \
 && /opt/dovecote/bin/python -m pip install --no-deps --no-index dist/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/dovecote /opt/dovecote
ENV PATH=/opt/dovecote/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DOVECOTE_HOST=0.0.0.0 \
    DOVECOTE_PORT=8080 \
    DOVECOTE_DATABASE_URL=sqlite:////data/dovecote.db
# The image comes without compiled files of the standard library, and nothing here may write them: each start would compile them again.
RUN python -m compileall -q -x '/tests?/' "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
RUN useradd --uid 10001 --no-create-home dovecote && install -d -m 700 -o dovecote /data
# By number: Kubernetes then knows that it is not root.
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Asks where the settings say that this container listens, also when that is an IPv6 address.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s CMD ["dovecote", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dovecote"]
CMD ["serve"]
