# Parley and nothing else; compose.yaml adds the servers. Installed as `make run` does it: from requirements.lock, by hash.
FROM python:3.12.11-slim-bookworm

WORKDIR /app
COPY . .
RUN --mount=type=cache,target=/cache \
    UV_CACHE_DIR=/cache PIP_CACHE_DIR=/cache/pip UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 ./bootstrap.sh run \
    && .venv/bin/python -m compileall -q agents graphs tools memory knowledge serving app.py \
    && rm -rf .venv-uv \
    && useradd --uid 10001 --no-create-home parley && install -d -o parley -g parley /data

ENV PATH=/app/.venv/bin:$PATH PARLEY_DATA_DIR=/data PYTHONUNBUFFERED=1
USER parley
WORKDIR /data
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["parley"]
CMD ["serve", "--host", "0.0.0.0"]
