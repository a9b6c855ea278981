# One image for all processes; compose.yaml says which one a container is. Versions are those of requirements/, with hashes.
FROM python:3.12-slim-bookworm AS build
RUN python -m venv /venv
WORKDIR /project
# What changes seldom comes first, and is kept from build to build.
COPY requirements ./requirements
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY feature_store ./feature_store
COPY assets ./assets
COPY checks ./checks
COPY stack ./stack
COPY streams ./streams
ARG EXTRAS=demo,grpc
RUN /venv/bin/uv pip install --no-cache --python /venv/bin/python --compile-bytecode --no-build-isolation \
    --constraints requirements/dev.txt ".[${EXTRAS}]" \
    && /venv/bin/uv pip uninstall --python /venv/bin/python uv

FROM python:3.12-slim-bookworm
# The home is a volume: lake, Dagster's books, reports. Nothing else is written.
RUN useradd --system --uid 10001 --create-home store && install --directory --owner=store /data
COPY --from=build /venv /venv
WORKDIR /project
COPY features ./features
COPY demo ./demo
COPY definitions.py workspace.yaml Procfile ./
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FEATURE_STORE_HOME=/data
USER 10001
VOLUME /data
EXPOSE 3000 8700 8701 8702 8703
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s CMD ["python", "-m", "feature_store_deploy.stack.healthy", "api"]
CMD ["python", "-m", "feature_store.serving"]
