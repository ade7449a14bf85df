. .venv/bin/activate
export LIMPET_ACCESS_KEY=a-key-of-the-tutorial-that-has-32-bytes-and-more
export LIMPET_CONNECTION_STRING="Endpoint=http://127.0.0.1:8080;AccessKey=$LIMPET_ACCESS_KEY;Version=1.0;"
export COOK_KEY=only-the-cook-knows-this
