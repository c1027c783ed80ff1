# One image for web, worker and commands; which of them a container is, its command says.
FROM python:3.11-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --requirement requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 flair && install -d -o flair -g flair /data /models
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FLAIR_DATA_DIR=/data FLAIR_LOG_FORMAT=json
# As in supervisord.conf.
ENV MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=67108864 MALLOC_TRIM_THRESHOLD_=134217728
WORKDIR /app
COPY manage.py ./
COPY locale locale
COPY static static
COPY templates templates
COPY ml ml
COPY breeds breeds
COPY shelter shelter
USER 10001
# The key is only there so that none is made and left in the image.
RUN FLAIR_SECRET_KEY=only-while-building python manage.py collectstatic --no-input --verbosity 0
EXPOSE 8000
CMD ["gunicorn", "shelter.wsgi", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--preload", "--threads", "48", \
     "--timeout", "120", "--graceful-timeout", "60", "--no-control-socket"]
