# One image for the bridge, the workers and Flower; the command chooses:
#   python -m bridge | python -m pipeline.worker | celery -A pipeline flower
# A tag is renewed under the same name. `make pin-base` writes the digest that it has today behind it, to be committed;
# `docker build --build-arg BASE=python@sha256:… .` takes another base for one build.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
COPY requirements.txt /tmp/requirements.txt
# Wheels only, and only those whose hash is locked: nothing is compiled. pip itself stays behind, and so does pycurl, which
# celery[sqs] brings for kombu's own receiver: here boto3 receives. It is 18 MB of the image.
RUN python -m venv /opt/pipeline \
 && /opt/pipeline/bin/python -m pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes -r /tmp/requirements.txt \
 && /opt/pipeline/bin/python -m pip uninstall --quiet --yes pycurl pip
COPY pyproject.toml /srv/pyproject.toml
COPY pipeline /srv/pipeline
COPY bridge /srv/bridge
COPY tasks /srv/tasks
# The root is read-only where it runs, so the byte code is made here.
RUN /opt/pipeline/bin/python -m compileall -q /srv

FROM ${BASE}
COPY --from=build /opt/pipeline /opt/pipeline
COPY --from=build /srv /srv
# The faster resampler is pinned together with Pillow, whose memory it works in (docs/images.md); it is not there on ARM.
ENV RESAMPLER=auto \
    S3_CLIENT=auto \
    PATH=/opt/pipeline/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /srv
# The base image has no byte code of the standard library: half a second of CPU at each start.
RUN python -m compileall -q -x '/(site-packages|ensurepip|idlelib|tkinter|turtledemo)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# Flower's database; a volume that is mounted here belongs to the user too.
RUN install -d -o 10001 -g 10001 /var/lib/flower
USER 10001:10001
STOPSIGNAL SIGTERM
# A worker's; the template and compose.yaml give the other roles theirs.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 CMD ["python", "-SI", "/srv/pipeline/sqs/health_check.py", "worker"]
CMD ["python", "-m", "pipeline.worker", "--loglevel", "INFO"]
